"""Signatures that cosign stored beside an image, in each of its formats.

The formats are those of cosign's `specs/SIGNATURE_SPEC.md` (a tag beside the image), of its experimental use of
referrers, and of `specs/BUNDLE_SPEC.md` with predicate `https://sigstore.dev/cosign/sign/v1`, which cosign 3 writes.
Who made them is for a `Signer` to say: a key here, for which no transparency log is asked, or an identity
(`keyless.py`).
"""

import base64
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256, SHA384, SHA512, HashAlgorithm
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from orchestration.adapters.oci_host import INDEX, Content, RegistryHost
from orchestration.promotion.image_signatures import ImageSignature
from orchestration.promotion.images import is_digest
from orchestration.promotion.problems import DependencyError, Problem
from orchestration.promotion.texts import read_json_object

PublicKey = ec.EllipticCurvePublicKey | rsa.RSAPublicKey

_SIMPLE_SIGNING = "application/vnd.dev.cosign.simplesigning.v1+json"
_SIGNATURE = "dev.cosignproject.cosign/signature"
_BUNDLE = "application/vnd.dev.sigstore.bundle"
_IN_TOTO = "application/vnd.in-toto+json"
_SIGNED = "https://sigstore.dev/cosign/sign/v1"
"""The predicate of a bundle that signs an image; one about anything else, such as an SBOM, does not."""
_MOST = 32
"""How many signatures of one image are read."""
_HASHES = {"secp384r1": SHA384(), "secp521r1": SHA512()}
"""By curve, since cosign 2.6; before, all keys were used with SHA-256, and the others still are."""
_ANOTHER_KEY = "made by another key, or changed"


@dataclass(frozen=True)
class Envelope:
    """What a bundle signs."""

    kind: str
    """The payload's media type."""
    payload: bytes
    fault: str | None
    """Why it is not by the signer; None if it is."""


class Signer(Protocol):
    """Who should have made a signature."""

    def fault_of(self, payload: bytes, signature: bytes) -> str | None:
        """Say why a signature in a tag beside the image is not by the signer; None when it is."""

    def open(self, bundle: Content) -> Envelope:
        """Read a bundle, and whether the signer made it."""


@dataclass(frozen=True)
class KeySigner:
    """The holder of a private key, by its public half."""

    key: PublicKey

    def fault_of(self, payload: bytes, signature: bytes) -> str | None:
        """Say so when the key did not make the signature."""
        return None if _is_by(self.key, signature, payload) else _ANOTHER_KEY

    def open(self, bundle: Content) -> Envelope:
        """Read a bundle, any of whose signatures may be the key's."""
        kind, payload = claimed(bundle)
        envelope = _dict(bundle.document.get("dsseEnvelope"))
        # A DSSE envelope's signature covers the payload's type and the payload (its protocol.md).
        message = b"DSSEv1 %d %s %d %s" % (len(kind.encode()), kind.encode(), len(payload), payload)
        signatures = [_bytes(each.get("sig")) for each in _dicts(envelope.get("signatures"))[:_MOST]]
        is_by_key = any(_is_by(self.key, signature, message) for signature in signatures)
        return Envelope(kind, payload, None if is_by_key else _ANOTHER_KEY)


def read_public_key(path: Path) -> PublicKey:
    """Read the public key of a cosign key pair, `cosign.pub`.

    Raises:
        DependencyError: the file cannot be read, or holds no public key of a kind that cosign signs with.
    """

    def refuse(found: str, next_step: str) -> DependencyError:
        expected = "a public key in PEM, as cosign writes it to cosign.pub"
        return DependencyError(Problem(f"the key {path} of signature.cosign.key", expected, found, next_step))

    try:
        content = path.read_bytes()
        if b"PRIVATE KEY" in content:
            raise refuse("a private key", "Put the public key there, and keep the private one where images are signed.")
        key = load_pem_public_key(content)
    except OSError as error:
        found = error.strerror or type(error).__name__
        raise refuse(found, "Correct the path in the policy, or write the file.") from None
    except (ValueError, UnsupportedAlgorithm):
        raise refuse("another text", "Write it with: cosign public-key --key KEY.") from None
    if not isinstance(key, PublicKey):
        raise refuse(f"a key of another kind ({type(key).__name__})", "Use an ECDSA or RSA key.")
    return key


def read_signatures(host: RegistryHost, path: str, digest: str, signer: Signer) -> Iterator[ImageSignature]:
    """Yield all signatures that are stored for an image.

    Args:
        host: the image's registry.
        path: its repository there.
        digest: its digest.
        signer: who should have made them.

    Raises:
        DependencyError: the registry does not answer.
    """
    tag = digest.replace(":", "-")
    manifest = host.manifest(path, f"{tag}.sig")
    if manifest is not None:
        yield from _of_manifest(host, path, manifest.document, signer)
    index = host.get(path, f"referrers/{digest}", digest=None, accept=INDEX, or_unsupported=True)
    index = index or host.manifest(path, tag)  # where a registry has no referrers, clients keep them under this tag
    for entry in _dicts(index.document.get("manifests"))[:_MOST] if index else ():
        named = str(entry.get("digest"))
        manifest = host.manifest(path, named) if is_digest(named) else None
        if manifest is not None:
            yield from _of_manifest(host, path, manifest.document, signer)


def claimed(bundle: Content) -> tuple[str, bytes]:
    """Return the type and the payload of a bundle's DSSE envelope, whoever made it."""
    envelope = _dict(bundle.document.get("dsseEnvelope"))
    return str(envelope.get("payloadType")), _bytes(envelope.get("payload"))


def _of_manifest(
    host: RegistryHost, path: str, manifest: Mapping[str, Any], signer: Signer
) -> Iterator[ImageSignature]:
    for layer in _dicts(manifest.get("layers"))[:_MOST]:
        kind, digest = str(layer.get("mediaType")), str(layer.get("digest"))
        if not is_digest(digest) or not kind.startswith((_SIMPLE_SIGNING, _BUNDLE)):
            continue
        content = host.get(path, f"blobs/{digest}", digest=digest)
        if content is None:
            continue
        if kind == _SIMPLE_SIGNING:
            text = _dict(layer.get("annotations")).get(_SIGNATURE)
            yield _of_payload(content.document, signer.fault_of(content.body, _bytes(text)))
        else:
            yield from _of_envelope(signer.open(content))


def _of_payload(payload: Mapping[str, Any], fault: str | None) -> ImageSignature:
    critical = _dict(payload.get("critical"))
    if critical.get("type") != "cosign container image signature":
        fault = fault or "no signature of an image"
    digest = _dict(critical.get("image")).get("docker-manifest-digest")
    repository = _dict(critical.get("identity")).get("docker-reference")
    return ImageSignature(str(digest), str(repository), fault)


def _of_envelope(envelope: Envelope) -> Iterator[ImageSignature]:
    statement = read_json_object(envelope.payload)
    if envelope.kind != _IN_TOTO or statement.get("predicateType") != _SIGNED:
        return
    for subject in _dicts(statement.get("subject")):
        yield ImageSignature(f"sha256:{_dict(subject.get('digest')).get('sha256')}", None, envelope.fault)


def _is_by(key: PublicKey, signature: bytes, message: bytes) -> bool:
    own = _HASHES.get(key.curve.name) if isinstance(key, ec.EllipticCurvePublicKey) else None
    return any(_verifies(key, signature, message, algorithm) for algorithm in (SHA256(), own) if algorithm)


def _verifies(key: PublicKey, signature: bytes, message: bytes, algorithm: HashAlgorithm) -> bool:
    try:
        match key:
            case ec.EllipticCurvePublicKey():
                key.verify(signature, message, ec.ECDSA(algorithm))
            case rsa.RSAPublicKey():
                key.verify(signature, message, padding.PKCS1v15(), algorithm)
    except InvalidSignature:
        return False
    return True


def _bytes(text: object) -> bytes:
    try:
        return base64.b64decode(text, validate=True) if isinstance(text, str) else b""
    except ValueError:
        return b""


def _dict(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _dicts(values: object) -> list[dict[str, Any]]:
    return [each for each in values if isinstance(each, dict)] if isinstance(values, list) else []
