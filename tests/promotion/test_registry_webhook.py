"""MLflow's webhooks: which deliveries are believed, by a signature as MLflow's own code makes it."""

import json

import pytest
from mlflow.webhooks.delivery import _generate_hmac_signature
from starlette.datastructures import Headers

from orchestration.promotion.registry_webhook import (
    EVENTS,
    OLDEST_SECONDS,
    Deliveries,
    UntrustedDeliveryError,
    model_of_moved_alias,
)

NOW = 1_800_000_000.0
SECRET = "the secret of MLflow's webhook, with an ä"
BODY = json.dumps({"entity": "model_version_alias", "action": "created", "data": {"name": "iris", "alias": "ä"}})


def headers(delivery: str = "d-1", at: str = str(int(NOW)), secret: str = SECRET, body: str = BODY) -> Headers:
    signature = _generate_hmac_signature(secret, delivery, at, body)
    sent = {"X-MLflow-Delivery-Id": delivery, "X-MLflow-Timestamp": at, "X-MLflow-Signature": signature}
    return Headers(sent)


def without(name: str) -> Headers:
    return Headers({header: value for header, value in headers().items() if header != name.lower()})


def test_a_delivery_is_taken_once() -> None:
    """What MLflow signed is believed; the same delivery again is known, and another one is not."""
    deliveries = Deliveries()
    taken = [deliveries.take(headers(each), BODY.encode(), SECRET, NOW) for each in ("d-1", "d-1", "d-2", "d-1")]
    assert taken == [True, False, True, False]


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param(headers(secret="another"), id="another secret"),
        pytest.param(headers(body=BODY.replace("iris", "wine")), id="another body"),
        pytest.param(Headers({**headers(), "x-mlflow-delivery-id": "d-2"}), id="another delivery"),
        pytest.param(Headers({**headers(), "x-mlflow-timestamp": str(int(NOW) + 1)}), id="another time"),
        pytest.param(Headers({**headers(), "x-mlflow-signature": headers()["x-mlflow-signature"][3:]}), id="no v1"),
        pytest.param(headers(at=str(int(NOW - OLDEST_SECONDS) - 1)), id="too old"),
        pytest.param(headers(at=str(int(NOW + OLDEST_SECONDS) + 1)), id="of the future"),
        pytest.param(headers(at="now"), id="no time"),
        pytest.param(headers(at="9" * 5000), id="a time of 5000 digits"),
        pytest.param(headers(at="²"), id="a time in other digits"),
        pytest.param(headers(delivery="d" * 257), id="a long name"),
        pytest.param(without("X-MLflow-Signature"), id="without a signature"),
        pytest.param(without("X-MLflow-Delivery-Id"), id="without a name"),
        pytest.param(without("X-MLflow-Timestamp"), id="without a time"),
    ],
)
def test_what_is_not_signed_so_is_not_believed(sent: Headers) -> None:
    """It is refused without a word of what was sent, and not remembered: the real delivery is still taken."""
    deliveries = Deliveries()
    with pytest.raises(UntrustedDeliveryError) as refused:
        deliveries.take(sent, BODY.encode(), SECRET, NOW)
    assert not any(value in str(refused.value) for value in sent.values())
    assert deliveries.take(headers(), BODY.encode(), SECRET, NOW)


def test_what_is_remembered_is_bounded() -> None:
    """A delivery is forgotten once it would be too old anyway, and however many there are, memory stays small."""
    deliveries = Deliveries()
    for number in range(10_100):
        deliveries.take(headers(f"d-{number}"), BODY.encode(), SECRET, NOW)
    assert len(deliveries._taken) <= 10_001
    later = NOW + 3 * OLDEST_SECONDS
    assert deliveries.take(headers("d-10099", str(int(later))), BODY.encode(), SECRET, later)
    assert len(deliveries._taken) == 1


@pytest.mark.parametrize("event", EVENTS)
def test_an_alias_that_moves_is_worth_a_look(event: str) -> None:
    """Both events that MLflow sends when an alias is set or removed."""
    entity, _, action = event.partition(".")
    sent = {"entity": entity, "action": action, "data": {"name": "iris", "alias": "challenger", "version": "1"}}
    assert model_of_moved_alias(json.dumps(sent).encode()) == "iris"


@pytest.mark.parametrize(
    "body",
    [
        *(
            b"",
            b"[]",
            b"[" * 100_000,
            b"\xff",
            BODY.replace("iris", "x").replace('{"name": "x"', '{"name": 1').encode(),
        ),
        *(BODY.replace("_alias", "_tag").encode(), BODY.replace('"data"', '"other"').encode()),
    ],
)
def test_anything_else_is_not(body: bytes) -> None:
    """Another event, or what is no event, wakes nobody."""
    assert model_of_moved_alias(body) is None
