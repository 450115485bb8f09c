"""How a promotion is named."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestration.promotion.identity import (
    PromotionId,
    parse_partition_key,
    parse_promotion_id,
    partition_key,
    promotion_id,
    promotion_subject,
    promotion_trailers,
    rollback_subject,
    rollback_trailers,
)
from orchestration.promotion.images import ImageRef
from orchestration.promotion.model_version import ModelVersion

IMAGE = ImageRef("ghcr.io/team/model", "v7", "sha256:0123456789ab" + "c" * 52)
ID = PromotionId("iris-classifier-edge", 7, "0123456789ab", 2)
POLICIES = st.from_regex(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", fullmatch=True)
NUMBERS = st.integers(1, 10**17)


def test_an_id_is_made_from_policy_version_image_and_attempt() -> None:
    """The id has the first 12 digits of the image's digest, and gives the evidence tag its name."""
    assert promotion_id("iris-classifier-edge", 7, IMAGE, 2) == ID
    assert str(ID) == "iris-classifier-edge/7/0123456789ab/2"
    assert ID.evidence_tag == "incumbent/iris-classifier-edge/7-2"


@given(POLICIES, NUMBERS, st.from_regex(r"[0-9a-f]{12}", fullmatch=True), NUMBERS)
def test_an_id_is_read_as_it_is_written(policy: str, version: int, digest: str, attempt: int) -> None:
    """Writing an id and parsing it gives the same id."""
    identity = PromotionId(policy, version, digest, attempt)
    assert parse_promotion_id(str(identity)) == identity


@given(POLICIES, NUMBERS)
def test_a_partition_key_is_read_as_it_is_written(policy: str, version: int) -> None:
    """Writing a partition key and parsing it gives policy and version."""
    assert parse_partition_key(partition_key(policy, version)) == (policy, version)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "p/7/0123456789ab",
        "p/7/0123456789ab/1/",
        "p/7/0123456789ab/1\n",
        "p/0/0123456789ab/1",
        "p/07/0123456789ab/1",
        "p/-7/0123456789ab/1",
        "p/7/0123456789AB/1",
        "p/7/0123456789abc/1",
        "P/7/0123456789ab/1",
        "a/b/7/0123456789ab/1",
        "p/\u0667/0123456789ab/1",
        "p/" + "9" * 5000 + "/0123456789ab/1",
    ],
)
def test_a_malformed_id_is_none(text: str) -> None:
    """A trailer that a person wrote by hand is an id only if all of it matches, and never causes a crash."""
    assert parse_promotion_id(text) is None


@pytest.mark.parametrize(
    "key", ["", "p", "p@", "@7", "p@0", "p@07", "p@7\n", "p@7@8", "P@7", "p@-1", "p@1.5", "p@" + "9" * 5000]
)
def test_a_malformed_partition_key_is_none(key: str) -> None:
    """A partition that a person added by hand in the UI is parsed only if all of it matches."""
    assert parse_partition_key(key) is None


@given(st.text(), st.text())
def test_any_text_is_parsed_or_none(key: str, text: str) -> None:
    """Parsing never crashes, and a parsed key or id is written as it was read."""
    parsed = parse_partition_key(key)
    assert parsed is None or partition_key(*parsed) == key
    identity = parse_promotion_id(text)
    assert identity is None or str(identity) == text


def test_subjects_are_sentences() -> None:
    """The subject lines of a promotion and of its rollback can be read in `git log`."""
    assert promotion_subject(ID) == "Promote iris-classifier-edge to version 7"
    assert rollback_subject(ID, "version 6") == "Roll back iris-classifier-edge from version 7 to version 6"


def test_trailers_say_what_was_promoted_and_what_was_rolled_back() -> None:
    """Both commits have the trailers that identify and explain them; a version without a run has `none`."""
    assert promotion_trailers(ID, ModelVersion("iris-classifier", 7, "r7", None), IMAGE) == {
        "Promotion-Id": "iris-classifier-edge/7/0123456789ab/2",
        "Model": "iris-classifier",
        "Model-Version": "7",
        "MLflow-Run": "r7",
        "Image-Digest": IMAGE.digest,
    }
    assert promotion_trailers(ID, ModelVersion("m", 7, None, None), IMAGE)["MLflow-Run"] == "none"
    asked = {"incumbent.iris-classifier-edge.requested_at": "2026-01-31T13:00:00.000+01:00"}
    trailers = promotion_trailers(ID, ModelVersion("m", 7, None, None, asked), IMAGE)
    assert trailers["Requested-At"] == "2026-01-31T12:00:00.000Z"
    assert rollback_trailers(ID, "Failed", "ghcr.io/team/model:v6", "wrong\nanswers") == {
        "Rollback-Of": "iris-classifier-edge/7/0123456789ab/2",
        "Verdict": "Failed",
        "Image": "ghcr.io/team/model:v6",
        "Reason": "wrong answers",
    }


@given(st.text(), st.text())
def test_nothing_from_the_registry_becomes_a_trailer_of_its_own(model: str, run: str) -> None:
    """Every value is one line: a line break in a model's name or run id could forge a second Promotion-Id."""
    forged = "\nPromotion-Id: x/1/0123456789ab/1\r\n"
    tags = {"incumbent.iris-classifier-edge.requested_at": run + forged}
    trailers = promotion_trailers(ID, ModelVersion(model + forged, 7, run + forged, None, tags), IMAGE)
    assert "Requested-At" not in trailers
    assert all(len(value.splitlines()) == 1 for value in trailers.values())
