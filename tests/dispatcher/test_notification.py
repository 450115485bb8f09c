"""What is read of a notification, and what is refused: Alertmanager is trusted, label values are not."""

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestration.dispatcher.notification import (
    LONGEST_VALUE,
    MOST_VALUES,
    NotificationError,
    Status,
    read_notification,
)
from tests.fakes.dispatching import alert, drift, notification


def body(*alerts: dict[str, Any], **fields: object) -> bytes:
    return json.dumps({**notification(), "alerts": list(alerts), **fields}).encode()


def raw(**fields: object) -> dict[str, Any]:
    sent: Any = notification(alert())["alerts"]
    return {**sent[0], **fields}


def test_a_group_is_read_as_it_was_sent() -> None:
    """Each alert has its labels, annotations, status and what recognises it."""
    sent = (alert(pod="iris-1"), alert(pod="iris-2", status=Status.RESOLVED), drift())
    assert read_notification(json.dumps(notification(*sent)).encode()).alerts == sent


@pytest.mark.parametrize(
    ("content", "reason", "status"),
    [
        (b"", "not_json", 400),
        (b"{", "not_json", 400),
        (b"\xff\xfe", "not_json", 400),
        (b"[" * 200_000, "not_json", 400),
        (b'{"a":' * 100_000, "not_json", 400),
        (b"null", "shape", 422),
        (b"[]", "shape", 422),
        (b"{}", "version", 422),
        (json.dumps(notification(version="5")).encode(), "version", 422),
        (b'{"version": 4, "alerts": []}', "version", 422),
        (b'{"version": "4"}', "shape", 422),
        (b'{"version": "4", "alerts": {}}', "shape", 422),
        (body("text"), "shape", 422),  # type: ignore[arg-type]
        (body(raw(fingerprint=7)), "shape", 422),
        (body(raw(fingerprint="")), "shape", 422),
        (body(raw(fingerprint="f" * 65)), "shape", 422),
        (body(raw(startsAt="yesterday")), "shape", 422),
        (body(raw(startsAt=None)), "shape", 422),
        (body(raw(status="pending")), "shape", 422),
        (body(raw(status=["firing"])), "shape", 422),
        (body(raw(labels=None)), "shape", 422),
        (body(raw(labels={"pod": 7})), "shape", 422),
        (body(raw(labels={"pod": {"deep": "x"}})), "shape", 422),
        (body(raw(annotations=[])), "shape", 422),
        (body(raw(), raw(labels={"pod": None})), "shape", 422),
        (body(raw(), truncatedAlerts="1"), "shape", 422),
        (body(raw(), truncatedAlerts=-1), "shape", 422),
        (body(raw(), truncatedAlerts=10**400), "shape", 422),
    ],
)
def test_another_form_is_refused(content: bytes, reason: str, status: int) -> None:
    """Nothing of a notification with another form is kept, and the refusal says what was expected."""
    with pytest.raises(NotificationError, match="expected") as caught:
        read_notification(content)
    assert (caught.value.reason, caught.value.status) == (reason, status)


def test_hostile_values_are_made_plain() -> None:
    """Values are cut, and have no control characters, changes of direction, or halves of characters."""
    labels = {"alertname": "x" * 1_000_000, "pod": "a\x00\x1b[31m\u202eb\ud800c\r\n", "__proto__": "y"}
    (read,) = read_notification(body(raw(labels=labels))).alerts
    assert len(read.name) == LONGEST_VALUE
    assert read.labels["pod"] == "a  [31m b c  "
    assert read.labels["__proto__"] == "y"
    assert read.labels["pod"].encode()


def test_no_alert_has_endless_labels() -> None:
    """Of each alert, the first hundred labels are kept."""
    (read,) = read_notification(body(raw(labels={f"l{number}": "x" for number in range(10_000)}))).alerts
    assert len(read.labels) == MOST_VALUES


@pytest.mark.parametrize(("sent", "left_out"), [(0, 0), (600, 600), (None, 0)])
def test_what_alertmanager_left_out_is_known(sent: int | None, left_out: int) -> None:
    """It sends a part of a large group, and says how many more there are."""
    assert read_notification(body(raw(), truncatedAlerts=sent)).left_out == left_out


def test_nanoseconds_are_understood() -> None:
    """Go writes up to nine digits of a second, and a zone."""
    for starts_at in ("2026-01-31T12:00:00.123456789Z", "2026-01-31T12:00:00.1+02:00"):
        assert read_notification(body(raw(startsAt=starts_at))).alerts[0].starts_at == starts_at


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(),
        lambda children: st.lists(children) | st.dictionaries(st.sampled_from(["alerts", "labels", "x"]), children),
        max_leaves=20,
    )
)
def test_whatever_comes_is_read_or_refused(document: object) -> None:
    """No document makes anything else happen."""
    for content in (document, {"version": "4", "alerts": document}, {"version": "4", "alerts": [document]}):
        with contextlib.suppress(NotificationError):
            assert read_notification(json.dumps(content).encode()).alerts == ()
