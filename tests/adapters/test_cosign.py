"""Signatures of images: what cosign stores beside them, verified with a key, and what does not count.

They are made here as cosign's specifications say; `tests/platform/test_cosign.py` asks the real cosign.
"""

import base64
import re
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from pytest_httpserver import HTTPServer

from orchestration.adapters.cosign import KeySigner, read_public_key
from orchestration.adapters.oci import OciRegistry
from orchestration.promotion.image_signatures import ImageSignature, signature_problem
from orchestration.promotion.images import ImageRef
from orchestration.promotion.policy import CosignPolicy
from orchestration.promotion.problems import DependencyError
from tests.adapters.pushing import MANIFEST, NOWHERE, RealWorld, digest_of, encode

SIMPLE_SIGNING = "application/vnd.dev.cosign.simplesigning.v1+json"
BUNDLE = "application/vnd.dev.sigstore.bundle.v0.3+json"
SIGN = "https://sigstore.dev/cosign/sign/v1"

PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
KEYS: dict[str, Callable[[], PrivateKey]] = {
    "ecdsa": lambda: ec.generate_private_key(ec.SECP256R1()),
    "ecdsa-384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "ecdsa-521": lambda: ec.generate_private_key(ec.SECP521R1()),
    "rsa": lambda: rsa.generate_private_key(65537, 2048),
}


def sign(key: PrivateKey, message: bytes) -> str:
    """Sign as cosign does with each kind of key."""
    match key:
        case ec.EllipticCurvePrivateKey():
            own = {384: hashes.SHA384(), 521: hashes.SHA512()}.get(key.curve.key_size, hashes.SHA256())
            signature = key.sign(message, ec.ECDSA(own))
        case rsa.RSAPrivateKey():
            signature = key.sign(message, padding.PKCS1v15(), hashes.SHA256())
    return base64.b64encode(signature).decode()


def public(folder: Path, key: PrivateKey) -> str:
    """Write a key's public half as cosign does."""
    path = folder / "cosign.pub"
    path.write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    return str(path)


def layer(real: RealWorld, repository: str, key: PrivateKey, digest: str, signed_for: str) -> dict[str, object]:
    """Push the payload of a signature, and return the layer that has it."""
    payload = encode(
        {
            "critical": {
                "identity": {"docker-reference": signed_for},
                "image": {"docker-manifest-digest": digest},
                "type": "cosign container image signature",
            },
            "optional": None,
        }
    )
    annotations = {"dev.cosignproject.cosign/signature": sign(key, payload)}
    pushed = real.blob(repository, payload)
    return {"mediaType": SIMPLE_SIGNING, "size": len(payload), "digest": pushed, "annotations": annotations}


def store(real: RealWorld, repository: str, tag: str | None, layers: list[dict[str, object]]) -> str:
    """Push a manifest with signatures as its layers."""
    config = {
        "mediaType": "application/vnd.oci.image.config.v1+json",
        "digest": real.blob(repository, b"{}"),
        "size": 2,
    }
    return real.manifest(
        repository, tag, {"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers}
    )


def bundle(real: RealWorld, repository: str, key: PrivateKey, digest: str, predicate: str = SIGN, of: str = "") -> None:
    """Sign as cosign 3 does where the registry has no referrers."""
    kind = "application/vnd.in-toto+json"
    subject = [{"digest": {"sha256": (of or digest).removeprefix("sha256:")}}]
    payload = encode({"_type": "https://in-toto.io/Statement/v1", "subject": subject, "predicateType": predicate})
    message = b"DSSEv1 %d %s %d %s" % (len(kind), kind.encode(), len(payload), payload)
    envelope = {
        "payload": base64.b64encode(payload).decode(),
        "payloadType": kind,
        "signatures": [{"sig": sign(key, message)}],
    }
    attach(
        real, repository, digest, encode({"mediaType": BUNDLE, "verificationMaterial": {}, "dsseEnvelope": envelope})
    )


def attach(real: RealWorld, repository: str, digest: str, content: bytes) -> None:
    """Push a bundle beside an image, under the tag that stands in for referrers."""
    pushed = real.blob(repository, content)
    stored = store(real, repository, None, [{"mediaType": BUNDLE, "digest": pushed, "size": len(content)}])
    real.index(repository, digest.replace(":", "-"), [{"digest": stored, "artifactType": BUNDLE}])


@pytest.fixture
def real(oci_url: str) -> RealWorld:
    return RealWorld(oci_url)


@pytest.fixture
def image(real: RealWorld) -> ImageRef:
    """An image that is published and not signed."""
    repository = f"ghcr.io/team/signed-{uuid4().hex[:8]}"
    return ImageRef(repository, "abc", real.publish(repository, "abc", {}, ("amd64",)))


def verdict(real: RealWorld, image: ImageRef, key: str) -> str | None:
    """Return what is found instead of a signature that counts; None when one does."""
    wanted = CosignPolicy(key=key)
    problem = signature_problem(image, real.images.signatures(image, wanted), wanted)
    return problem.found if problem else None


@pytest.mark.parametrize("kind", KEYS)
@pytest.mark.parametrize("form", ["tag", "bundle"])
def test_a_signature_by_the_key_counts(real: RealWorld, image: ImageRef, tmp_path: Path, kind: str, form: str) -> None:
    """Keys of all kinds that cosign has, in its tag beside the image and as a bundle."""
    key, (repository, digest) = KEYS[kind](), (image.repository, str(image.digest))
    if form == "bundle":
        bundle(real, repository, key, digest)
    else:
        store(real, repository, f"{digest.replace(':', '-')}.sig", [layer(real, repository, key, digest, repository)])
    assert verdict(real, image, public(tmp_path, key)) is None
    assert (
        verdict(real, image, public(tmp_path, KEYS[kind]()))
        == "1 signature(s), none by it: made by another key, or changed"
    )


@pytest.mark.parametrize("curve", [ec.SECP256R1(), ec.SECP384R1(), ec.SECP521R1()], ids=lambda curve: curve.name)
def test_what_cosign_signed_before_counts(curve: ec.EllipticCurve) -> None:
    """Before 2.6, cosign used one hash for all curves, and signatures from then still count."""
    key = ec.generate_private_key(curve)
    signature = key.sign(b"payload", ec.ECDSA(hashes.SHA256()))
    assert KeySigner(key.public_key()).fault_of(b"payload", signature) is None
    assert KeySigner(key.public_key()).fault_of(b"another", signature) is not None


def test_what_is_not_signed_does_not_count(real: RealWorld, image: ImageRef, tmp_path: Path) -> None:
    """An image without anything beside it, or with an attestation about something else, has no signature."""
    key, (repository, digest) = KEYS["ecdsa"](), (image.repository, str(image.digest))
    assert verdict(real, image, public(tmp_path, key)) == "no signature"
    bundle(real, repository, key, digest, predicate="https://slsa.dev/provenance/v1")
    assert verdict(real, image, public(tmp_path, key)) == "no signature"


def test_a_signature_of_another_image_does_not_count(real: RealWorld, image: ImageRef, tmp_path: Path) -> None:
    """A genuine signature that somebody put beside another image, or in another repository, is refused by name."""
    key, (repository, digest) = KEYS["ecdsa"](), (image.repository, str(image.digest))
    tag, other = f"{digest.replace(':', '-')}.sig", "sha256:" + "1" * 64
    store(real, repository, tag, [layer(real, repository, key, other, repository)])
    assert verdict(real, image, public(tmp_path, key)) == f"a signature by it for another image, {other}"
    store(real, repository, tag, [layer(real, repository, key, digest, "ghcr.io/team/other")])
    assert verdict(real, image, public(tmp_path, key)) == "a signature by it for another repository, ghcr.io/team/other"
    bundle(real, repository, key, digest, of=other)
    store(real, repository, tag, [])
    assert verdict(real, image, public(tmp_path, key)) == f"a signature by it for another image, {other}"
    right = layer(real, repository, key, digest, repository)
    store(real, repository, tag, [layer(real, repository, KEYS["ecdsa"](), digest, repository), right])
    assert verdict(real, image, public(tmp_path, key)) is None


@pytest.mark.parametrize("change", ["payload", "annotation", "type"])
def test_a_changed_signature_does_not_count(real: RealWorld, image: ImageRef, tmp_path: Path, change: str) -> None:
    """A payload that was not what the key signed, no signature at all, and a payload of another type."""
    key, (repository, digest) = KEYS["ecdsa"](), (image.repository, str(image.digest))
    signed = layer(real, repository, key, digest, repository)
    annotations = signed["annotations"]
    assert isinstance(annotations, dict)
    if change == "payload":
        signed |= {"digest": layer(real, repository, key, digest, repository + "x")["digest"]}
    elif change == "annotation":
        annotations["dev.cosignproject.cosign/signature"] = "%%%"
    else:
        payload = encode({"critical": {"type": "atomic", "image": {"docker-manifest-digest": digest}}})
        annotations["dev.cosignproject.cosign/signature"] = sign(key, payload)
        signed |= {"digest": real.blob(repository, payload)}
    store(real, repository, f"{digest.replace(':', '-')}.sig", [signed])
    fault = "no signature of an image" if change == "type" else "made by another key, or changed"
    assert verdict(real, image, public(tmp_path, key)) == f"1 signature(s), none by it: {fault}"


@pytest.mark.parametrize("status", [404, 400, 405, 406, 501])
def test_a_registry_without_referrers_has_none(httpserver: HTTPServer, tmp_path: Path, status: int) -> None:
    """Registries that do not know the question for referrers answer in several ways."""
    unknown = encode({"errors": [{"code": "MANIFEST_UNKNOWN"}]})
    httpserver.expect_request(re.compile("/v2/team/model/referrers/")).respond_with_data(b"{}", status)
    httpserver.expect_request("/v2/").respond_with_data(b"{}")
    httpserver.expect_request(re.compile("/v2/")).respond_with_data(unknown, 404)
    registry = OciRegistry({"ghcr.io": httpserver.url_for("").rstrip("/")}, NOWHERE)
    image = ImageRef("ghcr.io/team/model", None, "sha256:" + "0" * 64)
    assert registry.signatures(image, CosignPolicy(key=public(tmp_path, KEYS["ecdsa"]()))) == ()


def listing(httpserver: HTTPServer, others: list[dict[str, object]], key: PrivateKey, link: str) -> ImageRef:
    """Serve an image whose referrers are on two pages: others on the first, and on the second its signature."""
    path, digest = "/v2/team/model", "sha256:" + "0" * 64
    payload = encode(
        {
            "critical": {
                "identity": {"docker-reference": "ghcr.io/team/model"},
                "image": {"docker-manifest-digest": digest},
                "type": "cosign container image signature",
            }
        }
    )
    annotations = {"dev.cosignproject.cosign/signature": sign(key, payload)}
    signed = {"mediaType": SIMPLE_SIGNING, "digest": digest_of(payload), "annotations": annotations}
    manifest = encode({"layers": [signed]})
    entry = {"digest": digest_of(manifest), "artifactType": "application/vnd.dev.cosign.artifact.sig.v1+json"}
    for query, entries, headers in (({}, others, {"Link": link}), ({"n": "9", "last": "x"}, [entry], {})):
        httpserver.expect_request(
            f"{path}/referrers/{digest}", query_string={"ns": "ghcr.io", **query}
        ).respond_with_json({"manifests": entries}, headers=headers)
    httpserver.expect_request(f"{path}/manifests/{entry['digest']}").respond_with_data(manifest)
    httpserver.expect_request(f"{path}/blobs/{signed['digest']}").respond_with_data(payload)
    httpserver.expect_request("/v2/").respond_with_data(b"{}")
    httpserver.expect_request(re.compile("/v2/")).respond_with_data(b'{"errors": [{"code": "NOT_FOUND"}]}', 404)
    return ImageRef("ghcr.io/team/model", None, digest)


def asked(httpserver: HTTPServer, image: ImageRef, key: str) -> tuple[ImageSignature, ...]:
    """Read the signatures of an image there."""
    return OciRegistry({"ghcr.io": httpserver.url_for("").rstrip("/")}, NOWHERE).signatures(
        image, CosignPolicy(key=key)
    )


HERE = '</v2/team/model/referrers/sha256%3A{}?n=9&last=x>; rel="next"'.format("0" * 64)
SBOM: dict[str, object] = {"artifactType": "application/spdx+json"}
ATTESTED: dict[str, object] = {"artifactType": BUNDLE, "annotations": {"dev.sigstore.bundle.predicateType": "x"}}


@pytest.mark.parametrize("other", [SBOM, ATTESTED])
def test_a_signature_among_many_referrers_counts(
    httpserver: HTTPServer, tmp_path: Path, other: dict[str, object]
) -> None:
    """What cannot be a signature takes no place among those that are read, and a list's next page is read, too."""
    key = KEYS["ecdsa"]()
    image = listing(httpserver, [{"digest": f"sha256:{number:064}", **other} for number in range(40)], key, HERE)
    (signature,) = asked(httpserver, image, public(tmp_path, key))
    assert signature == ImageSignature(str(image.digest), "ghcr.io/team/model")


@pytest.mark.parametrize(
    ("count", "link", "said"),
    [
        (33, "", "more than 32 signatures"),
        (0, HERE.replace("n=9&last=x", ""), "more than 16 pages of referrers"),
        (0, HERE.replace("</v2", "<http://127.0.0.1:1/v2"), "a next page of referrers at another address"),
    ],
)
def test_a_limit_that_hides_signatures_is_named(
    httpserver: HTTPServer, tmp_path: Path, count: int, link: str, said: str
) -> None:
    """Whoever signed an image does not read that it has no signature, because there is too much beside it to read."""
    others: list[dict[str, object]] = [
        {"digest": f"sha256:{number:064}", "artifactType": BUNDLE} for number in range(count)
    ]
    key = KEYS["ecdsa"]()
    with pytest.raises(DependencyError, match=said):
        asked(httpserver, listing(httpserver, others, key, link), public(tmp_path, key))


def test_hostile_signatures_do_not_crash(httpserver: HTTPServer, tmp_path: Path) -> None:
    """Values of wrong types are passed over."""
    registry = OciRegistry({"ghcr.io": httpserver.url_for("").rstrip("/")}, NOWHERE)
    image = ImageRef("ghcr.io/team/model", None, "sha256:" + "0" * 64)
    for document in ({"layers": 7}, {"layers": [7, {"mediaType": BUNDLE}]}, {"manifests": [{"digest": "x"}, 1]}):
        httpserver.clear()
        httpserver.expect_request(re.compile("/v2/")).respond_with_json(document)
        assert registry.signatures(image, CosignPolicy(key=public(tmp_path, KEYS["ecdsa"]()))) == ()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "No such file"),
        (b"hello", "another text"),
        (
            KEYS["ecdsa"]().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
            "a private key",
        ),
        (
            ed25519.Ed25519PrivateKey.generate()
            .public_key()
            .public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
            r"another kind \(Ed25519PublicKey\)\. Use an ECDSA or RSA key",
        ),
    ],
)
def test_a_key_that_cannot_be_used_is_an_error(tmp_path: Path, content: bytes | None, said: str) -> None:
    """A wrong key is the platform\'s fault and no verdict about an image; a private one is not repeated."""
    path = tmp_path / "cosign.pub"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DependencyError, match=rf"signature\.cosign\.key.*{said}") as caught:
        OciRegistry({}, NOWHERE).signatures(
            ImageRef("ghcr.io/a/b", None, "sha256:" + "0" * 64), CosignPolicy(key=str(path))
        )
    assert "BEGIN" not in str(caught.value)


@pytest.mark.parametrize("kind", sorted(KEYS))
def test_a_key_may_be_written_in_the_policy(kind: str) -> None:
    """As `cosign public-key` prints it, with the white space that YAML leaves around it."""
    key = KEYS[kind]().public_key()
    text = key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    policy = CosignPolicy(key=f"{text}\n")
    assert policy.key is not None
    assert read_public_key(policy.key).public_numbers() == key.public_numbers()
    assert policy.signer == "the key in the policy"


def test_a_key_in_the_policy_that_lost_its_lines_is_told() -> None:
    """YAML folds the lines of a text without `|`."""
    text = "-----BEGIN PUBLIC KEY----- MFkwEwYHKoZIzj0C -----END PUBLIC KEY-----"
    with pytest.raises(DependencyError, match=r"^the key in signature\.cosign\.key: .*and keep its lines\.$") as caught:
        read_public_key(text)
    assert "MFkw" not in str(caught.value)


@pytest.mark.parametrize(
    ("signed", "repository", "same"),
    [
        ("index.docker.io/library/redis", "docker.io/redis", True),
        ("docker.io/team/model", "team/model", True),
        ("ghcr.io/team/model:v1", "ghcr.io/team/model", True),
        ("ghcr.io/team/model-x", "ghcr.io/team/model", False),
        ("None", "ghcr.io/team/model", False),
    ],
)
def test_repositories_are_compared_by_what_they_mean(signed: str, repository: str, same: bool) -> None:
    """cosign writes Docker Hub's full name, and an identity of one's own may have a tag."""
    digest = "sha256:" + "0" * 64
    problem = signature_problem(
        ImageRef(repository, None, digest), [ImageSignature(digest, signed)], CosignPolicy(key="k")
    )
    assert (problem is None) == same
