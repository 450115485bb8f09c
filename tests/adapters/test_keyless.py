"""Signatures by an identity, verified offline with the root of a Sigstore of our own: who counts, and who does not."""

import base64
import copy
import json
import re
import sys
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from pytest_httpserver import HTTPServer

from orchestration.adapters.keyless import TrustedIdentity, trusted_identity
from orchestration.adapters.oci import OciRegistry
from orchestration.adapters.oci_host import Content
from orchestration.promotion.image_signatures import signature_problem
from orchestration.promotion.images import ImageRef
from orchestration.promotion.policy import CosignPolicy
from orchestration.promotion.problems import DependencyError
from tests.adapters.own_sigstore import BUNDLE, Json, OwnSigstore, b64, encode
from tests.adapters.pushing import INDEX, NOWHERE, digest_of

IDENTITY = "https://github.com/acme/iris/.github/workflows/build.yml@refs/heads/main"
ISSUER = "https://token.actions.githubusercontent.com"
SIGN = "https://sigstore.dev/cosign/sign/v1"
DIGEST, OTHER = "sha256:" + "0" * 64, "sha256:" + "1" * 64
IMAGE = ImageRef("ghcr.io/acme/iris", "v7", DIGEST)


def statement(digest: str = DIGEST, predicate: str = SIGN) -> bytes:
    """Return what cosign 3 signs of an image."""
    subject = [{"digest": {"sha256": digest.removeprefix("sha256:")}}]
    statement = {"_type": "https://in-toto.io/Statement/v1", "subject": subject, "predicateType": predicate}
    return encode(statement | {"predicate": {}})


SIGSTORE, ANOTHER = OwnSigstore(), OwnSigstore()


@pytest.fixture
def wanted(tmp_path: Path) -> CosignPolicy:
    """The policy: who must have signed, by which root."""
    return CosignPolicy(identity=IDENTITY, issuer=ISSUER, trusted_root=SIGSTORE.write_trusted_root(tmp_path))


def serve(server: HTTPServer, layer: Json, content: bytes) -> OciRegistry:
    """Serve a signature as a registry with referrers does."""
    manifest = encode({"schemaVersion": 2, "layers": [layer | {"digest": digest_of(content), "size": len(content)}]})
    index = encode({"schemaVersion": 2, "mediaType": INDEX, "manifests": [{"digest": digest_of(manifest)}]})
    base = "/v2/acme/iris"
    server.expect_request(f"{base}/referrers/{DIGEST}").respond_with_data(index)
    server.expect_request(f"{base}/manifests/{digest_of(manifest)}").respond_with_data(manifest)
    server.expect_request(f"{base}/blobs/{digest_of(content)}").respond_with_data(content)
    server.expect_request("/v2/").respond_with_data(b"{}")
    server.expect_request(re.compile("/v2/")).respond_with_data(b'{"errors": [{"code": "MANIFEST_UNKNOWN"}]}', 404)
    return OciRegistry({"ghcr.io": server.url_for("").rstrip("/")}, NOWHERE)


def verdict(server: HTTPServer, bundle: Json, wanted: CosignPolicy) -> str | None:
    """Return what is found instead of a signature that counts; None when one does."""
    registry = serve(server, {"mediaType": BUNDLE}, encode(bundle))
    problem = signature_problem(IMAGE, registry.signatures(IMAGE, wanted), wanted)
    return problem.found if problem else None


def good() -> Json:
    return SIGSTORE.sign(statement(), IDENTITY, ISSUER)


def changed(*path: str | int, to: object = None) -> Json:
    """Return a good bundle in which one place has another value."""
    bundle = good()
    *above, last = path
    place: object = bundle
    for step in above:
        place = place[step]  # type: ignore[index]
    place[last] = to  # type: ignore[index]
    return bundle


def with_certificate(old: bytes, new: bytes) -> Json:
    """Return a bundle of the second format with other bytes in its certificate, which is then read before its chain."""
    bundle = good()
    material = bundle["verificationMaterial"]
    assert isinstance(material, dict)
    certificate = base64.b64decode(material.pop("certificate")["rawBytes"])
    assert old in certificate
    material["x509CertificateChain"] = {"certificates": [{"rawBytes": b64(certificate.replace(old, new))}]}
    return bundle | {"mediaType": "application/vnd.dev.sigstore.bundle+json;version=0.2"}


CURVE = ec.SECP256R1()
ENTRY = ("verificationMaterial", "tlogEntries", 0)


@pytest.mark.parametrize("identity", [IDENTITY, "builder@acme.example"])
def test_the_identity_counts(httpserver: HTTPServer, wanted: CosignPolicy, identity: str) -> None:
    """A workflow or an e-mail address that the issuer vouches for, with a certificate that was valid when it signed."""
    bundle = SIGSTORE.sign(statement(), identity, ISSUER)
    assert verdict(httpserver, bundle, wanted.model_copy(update={"identity": identity})) is None


WRONG: dict[str, tuple[Callable[[], Json], str]] = {
    "another identity": (
        lambda: SIGSTORE.sign(statement(), IDENTITY.replace("acme", "evil"), ISSUER),
        f"none by it: Certificate's SANs do not match {IDENTITY}; actual SANs: .*github.com/evil/",
    ),
    "another issuer": (
        lambda: SIGSTORE.sign(statement(), IDENTITY, "https://issuer.evil.example"),
        "OIDCIssuer does not match .got 'https://issuer.evil.example', expected 'https://token.actions",
    ),
    "another image": (
        lambda: SIGSTORE.sign(statement(OTHER), IDENTITY, ISSUER),
        f"a signature by it for another image, {OTHER}",
    ),
    "an attestation": (
        lambda: SIGSTORE.sign(statement(predicate="https://slsa.dev/provenance/v1"), IDENTITY, ISSUER),
        "no signature",
    ),
    "another payload type": (lambda: SIGSTORE.sign(statement(), IDENTITY, ISSUER, kind="text/plain"), "no signature"),
    "logged when its certificate had expired": (
        lambda: SIGSTORE.sign(statement(), IDENTITY, ISSUER, late=timedelta(minutes=11)),
        "none by it: .*cert is not valid at validation time",
    ),
    "not logged": (lambda: changed(*ENTRY[:2], to=[]), "none by it: expected exactly one log entry in bundle"),
    "logged without a proof": (lambda: changed(*ENTRY, "inclusionProof"), "inclusionProof Input should be an object$"),
    "logged at no certain time": (
        lambda: changed(*ENTRY, "inclusionPromise"),
        "must contain an inclusion promise or signed timestamp",
    ),
    "logged at another time": (lambda: changed(*ENTRY, "integratedTime", to="1767312500"), "invalid inclusion promise"),
    "another signature was logged": (
        lambda: changed(*ENTRY[:2], to=[good()["verificationMaterial"]["tlogEntries"][0]]),  # type: ignore[index]
        "log entry signatures do not match bundle",
    ),
    "changed": (
        lambda: changed("dsseEnvelope", "payload", to=b64(statement().replace(b"{}", b"{ }"))),
        "none by it: DSSE: invalid signature",
    ),
    "made with another key than the certificate's": (
        lambda: SIGSTORE.sign(statement(), IDENTITY, ISSUER, certified=ec.generate_private_key(CURVE).public_key()),
        "none by it: DSSE: invalid signature",
    ),
    "certified for a kind of key that the library does not know": (
        lambda: SIGSTORE.sign(statement(), IDENTITY, ISSUER, certified=Ed25519PrivateKey.generate().public_key()),
        "none by it: .*positional argument",
    ),
    "a certificate of no known version": (
        lambda: with_certificate(b"\xa0\3\2\1\2", b"\xa0\3\2\1\7"),
        "none by it: .*not a valid X509 version",
    ),
    "a certificate that says a thing twice": (
        lambda: with_certificate(b"\x55\x1d\x0e", b"\x55\x1d\x0f"),
        "none by it: Duplicate 2.5.29.15 extension found",
    ),
    "another root": (lambda: ANOTHER.sign(statement(), IDENTITY, ISSUER), "candidates exhausted"),
    "a key": (
        lambda: changed("verificationMaterial", to={"publicKey": {"hint": "x"}, "tlogEntries": []}),
        "none by it: expected certificate in bundle",
    ),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_who_or_what_is_wrong_does_not_count(httpserver: HTTPServer, wanted: CosignPolicy, wrong: str) -> None:
    """Each is refused, in one line that says what is wrong."""
    bundle, said = WRONG[wrong]
    found = verdict(httpserver, bundle(), wanted)
    assert found is not None
    assert re.search(said, found), found
    assert "\n" not in found


@pytest.mark.parametrize(("part", "said"), [("ctlogs", "failed to verify SCT"), ("tlogs", "invalid log entry")])
def test_both_logs_are_the_roots(
    httpserver: HTTPServer, wanted: CosignPolicy, tmp_path: Path, part: str, said: str
) -> None:
    """A certificate or a signature that another log than the trusted root's promised to keep does not count."""
    assert wanted.trusted_root is not None
    (tmp_path / "another").mkdir()
    others = json.loads(Path(ANOTHER.write_trusted_root(tmp_path / "another")).read_bytes())
    root = Path(wanted.trusted_root)
    root.write_bytes(encode(json.loads(root.read_bytes()) | {part: others[part]}))
    assert said in str(verdict(httpserver, good(), wanted))


def test_cosigns_older_format_is_refused_by_name(httpserver: HTTPServer, wanted: CosignPolicy) -> None:
    """What cosign 2 stores has no proof that it was logged, and its refusal says what to do."""
    payload = encode({"critical": {"image": {"docker-manifest-digest": DIGEST}}})
    layer: Json = {"mediaType": "application/vnd.dev.cosign.simplesigning.v1+json"}
    problem = signature_problem(IMAGE, serve(httpserver, layer, payload).signatures(IMAGE, wanted), wanted)
    assert problem is not None
    assert "in cosign's older format, without a proof that it was logged (write bundles, as cosign 3" in problem.found
    assert problem.expected == f"a signature by {IDENTITY} (issuer {ISSUER}) for this image"
    assert problem.next_step == f"Sign it as that identity: cosign sign ghcr.io/acme/iris@{DIGEST}."


_VALUES: tuple[object, ...] = (None, 7, -1, "", "x", b64(b"x"), [], {}, [None], True)


def _places(value: object, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Yield the path of each value in a document."""
    steps: Iterator[tuple[str | int, object]] = iter(())
    if isinstance(value, dict):
        steps = iter(value.items())
    elif isinstance(value, list):
        steps = enumerate(value)
    for step, below in steps:
        yield (*path, step)
        yield from _places(below, (*path, step))


def open_(signer: TrustedIdentity, bundle: Json) -> str | None:
    body = encode(bundle)
    return signer.open(Content(digest_of(body), body, bundle)).fault


def test_no_change_of_a_bundle_is_taken_or_crashes(wanted: CosignPolicy) -> None:
    """Whatever one value of a bundle is replaced with, the signature counts no more, and a fault is said."""
    signer, bundle = trusted_identity(wanted), good()
    assert open_(signer, bundle) is None
    tried = 0
    for path in _places(bundle):
        for value in _VALUES:
            other = copy.deepcopy(bundle)
            *above, last = path
            place: object = other
            for step in above:
                place = place[step]  # type: ignore[index]
            place[last] = value  # type: ignore[index]
            assert open_(signer, other), (path, value)
            tried += 1
    assert tried > 200


@pytest.mark.parametrize(
    ("content", "said"), [(None, "No such file"), (b"hello", "Invalid JSON"), (b"{}", "mediaType Field required")]
)
def test_a_root_that_cannot_be_used_is_an_error(tmp_path: Path, content: bytes | None, said: str) -> None:
    """A wrong file is the platform's fault and no verdict about an image."""
    path = tmp_path / "root.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DependencyError, match=rf"signature\.cosign\.trusted_root.*{said}"):
        trusted_identity(CosignPolicy(identity=IDENTITY, issuer=ISSUER, trusted_root=str(path)))


def test_a_root_without_a_certificate_log_is_an_error(wanted: CosignPolicy) -> None:
    """A root that lacks what every verification needs refuses no image either."""
    assert wanted.trusted_root is not None
    root = Path(wanted.trusted_root)
    root.write_bytes(encode(json.loads(root.read_bytes()) | {"ctlogs": []}))
    with pytest.raises(DependencyError, match=r"signature\.cosign\.trusted_root.*CTFE keys not found"):
        open_(trusted_identity(wanted), good())


def test_without_a_root_and_a_network_it_says_so(
    tmp_path: Path, free_address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The public root is fetched anew; where that fails, nothing older is believed, and the error names the way out."""
    for name in ("https_proxy", "HTTPS_PROXY"):
        monkeypatch.setenv(name, f"http://{free_address}")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    for name in ("XDG_DATA_HOME", "XDG_CACHE_HOME"):
        monkeypatch.setenv(name, str(tmp_path))
    with pytest.raises(DependencyError, match=r"Failed to refresh.*name a file in signature\.cosign\.trusted_root"):
        trusted_identity(CosignPolicy(identity=IDENTITY, issuer=ISSUER))


def test_without_the_library_the_extra_is_named(wanted: CosignPolicy, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is needed for identities alone, so it is installed on demand."""
    monkeypatch.setitem(sys.modules, "sigstore.verify", None)
    with pytest.raises(DependencyError, match=r"pip install 'incumbent\[sigstore\]'"):
        trusted_identity(wanted)
