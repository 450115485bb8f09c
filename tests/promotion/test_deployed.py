"""What a promotion deploys: images and addresses, told apart by their texts, and known by their digests."""

import hashlib

import pytest

from orchestration.promotion.deployed import (
    ModelAddress,
    digest_of,
    find_argument,
    is_same,
    parse_address,
    parse_deployed,
)
from orchestration.promotion.images import ImageRef

DIGEST = f"sha256:{'a' * 64}"


@pytest.mark.parametrize(
    "text",
    [
        "models:/iris/7",
        "models:/m-0a1b2c",
        "runs:/0123abcd/model",
        "mlflow-artifacts:/1/models/m-0a1b/artifacts",
        "s3://acme-models/iris/date=2026-01-01/v7",
        "gs://acme-models/iris/",
        "https://models.example.org:8443/iris/7",
        "abfss://models@acme.dfs.core.windows.net/iris/7",
        "file:///srv/models/7",
        "pvc://claim/iris",
    ],
)
def test_an_address_is_a_text_with_a_scheme(text: str) -> None:
    """Each form of address is read as one, keeps its text, and has the sha256 of that text as its digest."""
    address = parse_deployed(text)
    assert address == ModelAddress(text)
    assert digest_of(text) == f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


@pytest.mark.parametrize("text", ["ghcr.io/acme/iris:v7", f"localhost:5000/iris@{DIGEST}", "iris", "models:7"])
def test_an_image_reference_is_no_address(text: str) -> None:
    """What is an image reference stays one, also with a port or a name like a scheme."""
    assert parse_address(text) is None
    assert isinstance(parse_deployed(text), ImageRef)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "/opt/ml/model",
        "models:/",
        "models:/iris/7\n",
        "models:/iris/7\x00",
        "models:/iris/7\u2028",
        "models:/iris 7",
        "models:/iris/7?versionId=3",
        "models:/iris/7#v",
        "s3://user:secret@acme/iris",
        "s3://user@acme/iris",
        "https://user:secret@host/iris",
        "wasbs://models:secret@acme.blob.core.windows.net/iris",
        "s3://acme-models/../evil",
        "s3://acme-models/%2e%2e/evil",
        "s3://acme-models//evil",
        "s3://acme-models/./iris",
        "s3:///",
        "models:/$(NAME)/7",
        "models:/iris\\7",
        'models:/iris/"7"',
        f"s3://acme/{'x' * 500}",
    ],
)
def test_what_could_be_read_in_two_ways_or_holds_a_login_is_no_address(text: str) -> None:
    """Control characters, queries, escapes, logins, dots that leave a folder, and texts without an end are refused."""
    assert parse_address(text) is None


@pytest.mark.parametrize(
    ("text", "fixed"),
    [
        ("models:/iris/7", True),
        ("models:/m-0a1b", True),
        ("runs:/0123/model", True),
        ("s3://acme/iris/7", True),
        ("models:/iris@champion", False),
        ("models:/iris/Production", False),
        ("models:/iris/latest", False),
        ("models:/iris", False),
        ("models:/iris/7/", False),
    ],
)
def test_an_alias_or_a_stage_is_no_fixed_address(text: str, fixed: bool) -> None:
    """Only a version, a model id and a place name the same model tomorrow."""
    address = parse_address(text)
    assert address is not None
    assert address.is_fixed is fixed


def test_a_fixed_address_names_its_version() -> None:
    """Of MLflow's addresses, only `models:/NAME/NUMBER` names a version of the registry."""
    assert ModelAddress("models:/iris/7").version == ("iris", 7)
    assert ModelAddress("models:/m-0a1b").version is None
    assert ModelAddress("s3://acme/iris/7").version is None


def test_images_are_compared_by_digest_and_addresses_by_text() -> None:
    """A tag beside an equal digest does not matter; an address is never an image, and never another address."""
    assert is_same(f"ghcr.io/a/b:v1@{DIGEST}", f"ghcr.io/a/b@{DIGEST}")
    assert not is_same("ghcr.io/a/b:v1", f"ghcr.io/a/b@{DIGEST}")
    assert is_same("models:/iris/7", "models:/iris/7")
    assert not is_same("models:/iris/7", "models:/iris/8")
    assert not is_same("ghcr.io/a/b:v1", "models:/iris/8")
    assert not is_same("", "")


def test_an_argument_holds_its_value_in_itself_or_in_the_next_text() -> None:
    """Both forms of an argument are found, each time it is there; a longer name is another argument."""
    arguments = ["serve", "--model-uri=a", "--model-uri-cache", "--model-uri", "b"]
    assert list(find_argument(arguments, "--model-uri")) == [(1, "--model-uri="), (4, "")]
