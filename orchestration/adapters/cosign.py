"""Signatures that cosign stored beside an image, in each of its formats, verified with a public key.

The formats are those of cosign's `specs/SIGNATURE_SPEC.md` (a tag beside the image), of its experimental use of
referrers, and of `specs/BUNDLE_SPEC.md` with predicate `https://sigstore.dev/cosign/sign/v1`, which cosign 3 writes. No
transparency log is asked: whose key it is says the policy.
"""

import base64
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from orchestration.adapters.oci_host import INDEX, RegistryHost
from orchestration.promotion.image_signatures import ImageSignature
from orchestration.promotion.images import is_digest
from orchestration.promotion.problems import DependencyError, Problem

PublicKey = ec.EllipticCurvePublicKey | rsa.RSAPublicKey | ed25519.Ed25519PublicKey

_SIMPLE_SIGNING = "application/vnd.dev.cosign.simplesigning.v1+json"
_SIGNATURE = "dev.cosignproject.cosign/signature"
_BUNDLE = "application/vnd.dev.sigstore.bundle"
_IN_TOTO = "application/vnd.in-toto+json"
_SIGNED = "https://sigstore.dev/cosign/sign/v1"
"""The predicate of a bundle that signs an image; one about anything else, such as an SBOM, does not."""
_MOST = 32
"""How many signatures of one image are read."""


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
        raise refuse(f"a key of another kind ({type(key).__name__})", "Use an ECDSA, RSA or Ed25519 key.")
    return key


def read_signatures(host: RegistryHost, path: str, digest: str, key: PublicKey) -> Iterator[ImageSignature]:
    """Yield all signatures that are stored for an image.

    Args:
        host: the image's registry.
        path: its repository there.
        digest: its digest.
        key: the key that should have made them.

    Raises:
        DependencyError: the registry does not answer.
    """
    tag = digest.replace(":", "-")
    manifest = host.manifest(path, f"{tag}.sig")
    if manifest is not None:
        yield from _of_manifest(host, path, manifest.document, key)
    index = host.get(path, f"referrers/{digest}", digest=None, accept=INDEX, or_unsupported=True)
    index = index or host.manifest(path, tag)  # where a registry has no referrers, clients keep them under this tag
    for entry in _dicts(index.document.get("manifests"))[:_MOST] if index else ():
        named = str(entry.get("digest"))
        manifest = host.manifest(path, named) if is_digest(named) else None
        if manifest is not None:
            yield from _of_manifest(host, path, manifest.document, key)


def _of_manifest(
    host: RegistryHost, path: str, manifest: Mapping[str, Any], key: PublicKey
) -> Iterator[ImageSignature]:
    for layer in _dicts(manifest.get("layers"))[:_MOST]:
        kind, digest = str(layer.get("mediaType")), str(layer.get("digest"))
        if not is_digest(digest) or not kind.startswith((_SIMPLE_SIGNING, _BUNDLE)):
            continue
        content = host.get(path, f"blobs/{digest}", digest=digest)
        if content is None:
            continue
        if kind == _SIMPLE_SIGNING:
            annotations = layer.get("annotations")
            text = annotations.get(_SIGNATURE) if isinstance(annotations, dict) else None
            yield _of_payload(content.document, _is_by(key, _bytes(text), content.body))
        else:
            yield from _of_bundle(content.document, key)


def _of_payload(payload: Mapping[str, Any], is_by_key: bool) -> ImageSignature:
    critical = _dict(payload.get("critical"))
    signed = critical.get("type") == "cosign container image signature"
    digest = _dict(critical.get("image")).get("docker-manifest-digest")
    repository = _dict(critical.get("identity")).get("docker-reference")
    return ImageSignature(str(digest), str(repository), is_by_key and signed)


def _of_bundle(bundle: Mapping[str, Any], key: PublicKey) -> Iterator[ImageSignature]:
    """Read a bundle's DSSE envelope (its protocol.md): the signature covers the payload's type and the payload."""
    envelope = _dict(bundle.get("dsseEnvelope"))
    payload = _bytes(envelope.get("payload"))
    try:
        statement = _dict(json.loads(payload))
    except (ValueError, RecursionError):
        return
    if envelope.get("payloadType") != _IN_TOTO or statement.get("predicateType") != _SIGNED:
        return
    message = b"DSSEv1 %d %s %d %s" % (len(_IN_TOTO), _IN_TOTO.encode(), len(payload), payload)
    signatures = [_bytes(each.get("sig")) for each in _dicts(envelope.get("signatures"))]
    is_by_key = any(_is_by(key, signature, message) for signature in signatures[:_MOST])
    for subject in _dicts(statement.get("subject")):
        yield ImageSignature(f"sha256:{_dict(subject.get('digest')).get('sha256')}", None, is_by_key)


def _is_by(key: PublicKey, signature: bytes, message: bytes) -> bool:
    try:
        match key:
            case ec.EllipticCurvePublicKey():
                key.verify(signature, message, ec.ECDSA(SHA256()))
            case rsa.RSAPublicKey():
                key.verify(signature, message, padding.PKCS1v15(), SHA256())
            case ed25519.Ed25519PublicKey():
                key.verify(signature, message)
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
