"""Signatures that cosign stored beside an image, in each of its formats.

The formats are those of cosign's `specs/SIGNATURE_SPEC.md` (a tag beside the image), of its experimental use of
referrers, and of `specs/BUNDLE_SPEC.md` with predicate `https://sigstore.dev/cosign/sign/v1`, which cosign 3 writes.
Who made them is for a `Signer` to say: a key here, for which no transparency log is asked, or an identity
(`keyless.py`).
"""

import base64
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any, Protocol

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256, SHA384, SHA512, HashAlgorithm
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from orchestration.adapters.oci_host import Content, RegistryHost
from orchestration.adapters.paths import at_home
from orchestration.promotion.image_signatures import ImageSignature
from orchestration.promotion.images import is_digest
from orchestration.promotion.problems import DependencyError, Problem
from orchestration.promotion.public_keys import is_pem
from orchestration.promotion.texts import read_json_object

PublicKey = ec.EllipticCurvePublicKey | rsa.RSAPublicKey

_SIMPLE_SIGNING = "application/vnd.dev.cosign.simplesigning.v1+json"
_SIGNATURE = "dev.cosignproject.cosign/signature"
_BUNDLE = "application/vnd.dev.sigstore.bundle"
_IN_TOTO = "application/vnd.in-toto+json"
_SIGNED = "https://sigstore.dev/cosign/sign/v1"
"""The predicate of a bundle that signs an image; one about anything else, such as an SBOM, does not."""
_MAY_SIGN = (
    "application/vnd.dev.cosign.artifact.sig.",
    _BUNDLE,
    # What a manifest's configuration is, when nothing else says what the manifest is.
    "application/vnd.oci.image.config.",
    "application/vnd.oci.empty.",
)
"""How the `artifactType` of a signature begins, where it has one."""
_PREDICATE = "dev.sigstore.bundle.predicateType"
"""The annotation by which cosign 3 tells its bundles apart; a wrong one hides a signature, and never makes one."""
_MOST = 32
"""How many signatures of one image are read, in each place."""
_PAGES = 16
"""How many pages of a registry's list of referrers are read."""
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


def read_public_key(key: str) -> PublicKey:
    """Read the public key of a cosign key pair.

    Args:
        key: the key in PEM, or the path of a file with it, `cosign.pub`.

    Raises:
        DependencyError: the file cannot be read, or this is no public key of a kind that cosign signs with.
    """
    is_written_out = is_pem(key)

    def refuse(found: str, next_step: str) -> DependencyError:
        expected = "a public key in PEM, as cosign writes it to cosign.pub"
        subject = "the key in signature.cosign.key" if is_written_out else f"the key {key} of signature.cosign.key"
        return DependencyError(Problem(subject, expected, found, next_step))

    try:
        content = key.strip().encode() if is_written_out else at_home(key).read_bytes()
        if b"PRIVATE KEY" in content:
            raise refuse("a private key", "Put the public key there, and keep the private one where images are signed.")
        public = load_pem_public_key(content)
    except OSError as error:
        found = error.strerror or type(error).__name__
        raise refuse(found, "Correct the path in the policy, or write the file.") from None
    except (ValueError, UnsupportedAlgorithm):
        next_step = "Write it with: cosign public-key --key KEY" + (", and keep its lines." if is_written_out else ".")
        raise refuse("another text", next_step) from None
    if not isinstance(public, PublicKey):
        raise refuse(f"a key of another kind ({type(public).__name__})", "Use an ECDSA or RSA key.")
    return public


def read_signatures(host: RegistryHost, path: str, digest: str, signer: Signer) -> tuple[ImageSignature, ...]:
    """Read the signatures that are stored for an image.

    Args:
        host: the image's registry.
        path: its repository there.
        digest: its digest.
        signer: who should have made them.

    Raises:
        DependencyError: the registry does not answer, or has more than are read, none of which is by the signer.
    """
    unread: list[str] = []
    found = tuple(
        signature
        for manifest in _manifests(host, path, digest, unread)
        for layer in _first(filter(_is_signature, _dicts(manifest.document.get("layers"))), unread)
        for signature in _of_layer(host, path, layer, signer)
    )
    if unread and not any(each.fault is None and each.digest == digest for each in found):
        next_step = "Delete signatures of it that are not needed any more, or build and sign it anew."
        raise host.http.failure(
            f"{unread[0]}, and none by the signer among those that are read",
            f"a signature of {path}@{digest}",
            next_step,
        )
    return found


def _manifests(host: RegistryHost, path: str, digest: str, unread: list[str]) -> Iterator[Content]:
    """Yield the manifests that may hold signatures; what limit left some of them out is added to `unread`."""
    tag = digest.replace(":", "-")
    names = [f"{tag}.sig"]
    pages, more = host.referrers(path, digest, _PAGES)
    if more:
        unread.append(more)
    if not pages:  # where a registry has no referrers, clients keep them under this tag
        pages = list(filter(None, [host.manifest(path, tag)]))
    entries = (entry for page in pages for entry in _dicts(page.document.get("manifests")) if _may_sign(entry))
    names += [str(entry["digest"]) for entry in _first(entries, unread)]
    yield from filter(None, (host.manifest(path, name) for name in names))


def _first(entries: Iterable[dict[str, Any]], unread: list[str]) -> list[dict[str, Any]]:
    """Return as many as are read, and add to `unread` that there are more."""
    first = list(islice(entries, _MOST + 1))
    if len(first) > _MOST:
        unread.append(f"more than {_MOST} signatures")
    return first[:_MOST]


def _may_sign(entry: Mapping[str, Any]) -> bool:
    """Whether an entry of a list of referrers may be a signature."""
    kind = entry.get("artifactType")
    predicate = _dict(entry.get("annotations")).get(_PREDICATE)
    return (
        is_digest(str(entry.get("digest")))
        and (not isinstance(kind, str) or not kind or kind.startswith(_MAY_SIGN))
        and predicate in (None, _SIGNED)
    )


def _is_signature(layer: Mapping[str, Any]) -> bool:
    """Whether a manifest's layer is a signature, whoever made it."""
    return is_digest(str(layer.get("digest"))) and str(layer.get("mediaType")).startswith((_SIMPLE_SIGNING, _BUNDLE))


def claimed(bundle: Content) -> tuple[str, bytes]:
    """Return the type and the payload of a bundle's DSSE envelope, whoever made it."""
    envelope = _dict(bundle.document.get("dsseEnvelope"))
    return str(envelope.get("payloadType")), _bytes(envelope.get("payload"))


def _of_layer(host: RegistryHost, path: str, layer: Mapping[str, Any], signer: Signer) -> Iterator[ImageSignature]:
    digest = str(layer["digest"])
    content = host.get(path, f"blobs/{digest}", digest=digest)
    if content is None:
        return
    if layer["mediaType"] == _SIMPLE_SIGNING:
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
