"""A Sigstore of the tests' own: its root, certificates with proofs of a certificate log, and a transparency log.

It makes what Fulcio, its certificate log and Rekor 1 make, by RFC 6962 and Sigstore's own specifications; the real
cosign verifies it in `tests/platform/test_cosign.py`.
"""

import base64
import hashlib
import json
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from struct import pack

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID, NameOID, ObjectIdentifier

BUNDLE = "application/vnd.dev.sigstore.bundle.v0.3+json"
IN_TOTO = "application/vnd.in-toto+json"
_BEGAN = datetime(2026, 1, 1, tzinfo=UTC)
_ORIGIN = "rekor.test - 1"
_LIFE = timedelta(minutes=10)
"""For how long Fulcio's certificates are valid."""

Json = dict[str, object]


def b64(content: bytes) -> str:
    return base64.b64encode(content).decode()


def encode(document: object) -> bytes:
    """Encode as RFC 8785 does, which is this for what stands in here."""
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()


def envelope_message(payload: bytes, kind: str = IN_TOTO) -> bytes:
    """Return what the signature of a DSSE envelope covers."""
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind.encode(), len(payload), payload)


@dataclass(frozen=True)
class Log:
    """The key of a log, by whose digest it is known."""

    key: ec.EllipticCurvePrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))

    @property
    def public(self) -> bytes:
        return self.key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)

    @property
    def id(self) -> bytes:
        return hashlib.sha256(self.public).digest()

    def sign(self, message: bytes) -> bytes:
        return self.key.sign(message, ec.ECDSA(SHA256()))

    def described(self, url: str) -> Json:
        """Return the log as a trusted root has it."""
        key = {
            "rawBytes": b64(self.public),
            "keyDetails": "PKIX_ECDSA_P256_SHA_256",
            "validFor": {"start": _BEGAN.isoformat()},
        }
        return {"baseUrl": url, "hashAlgorithm": "SHA2_256", "publicKey": key, "logId": {"keyId": b64(self.id)}}


class OwnSigstore:
    """One instance of Sigstore, whose root nobody else knows."""

    def __init__(self) -> None:
        self._rekor, self._certificates, self._root_key = Log(), Log(), Log()
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "sigstore.test")])
        public = self._root_key.key.public_key()
        usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
        self._root = (
            x509.CertificateBuilder(name, name, public, x509.random_serial_number(), _BEGAN, datetime(2056, 1, 1))
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(usage, critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
            .sign(self._root_key.key, SHA256())
        )

    def write_trusted_root(self, folder: Path) -> str:
        """Write what a person downloads once and then trusts."""
        authority = {
            "subject": {"organization": "test", "commonName": "sigstore.test"},
            "uri": "https://fulcio.test",
            "certChain": {"certificates": [{"rawBytes": b64(self._root.public_bytes(Encoding.DER))}]},
            "validFor": {"start": _BEGAN.isoformat()},
        }
        document = {
            "mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1",
            "tlogs": [self._rekor.described("https://rekor.test")],
            "certificateAuthorities": [authority],
            "ctlogs": [self._certificates.described("https://certificates.test")],
        }
        path = folder / "trusted_root.json"
        path.write_bytes(encode(document))
        return str(path)

    def sign(
        self,
        payload: bytes,
        identity: str,
        issuer: str,
        *,
        kind: str = IN_TOTO,
        late: timedelta = _LIFE,
        certified: CertificatePublicKeyTypes | None = None,
    ) -> Json:
        """Return a bundle with a signature of a payload, in a DSSE envelope.

        Args:
            payload: what is signed.
            identity: who signs: an e-mail address, or the address of a workflow.
            issuer: who says so.
            kind: the payload's media type.
            late: how long after its certificate was issued the signature came into the log, which is just in time.
            certified: the key in the certificate, if it is not the one that signs.
        """
        key, began = Log(), _BEGAN + timedelta(days=1)
        certificate = self._certify(certified or key.key.public_key(), identity, issuer, began)
        signature = b64(key.sign(envelope_message(payload, kind)))
        envelope = {"payload": b64(payload), "payloadType": kind, "signatures": [{"sig": signature}]}
        pem = certificate.public_bytes(Encoding.PEM)
        spec = {
            "envelopeHash": {"algorithm": "sha256", "value": hashlib.sha256(encode(envelope)).hexdigest()},
            "payloadHash": {"algorithm": "sha256", "value": hashlib.sha256(payload).hexdigest()},
            "signatures": [{"signature": signature, "verifier": b64(pem)}],
        }
        body = encode({"apiVersion": "0.0.1", "kind": "dsse", "spec": spec})
        material = {
            "certificate": {"rawBytes": b64(certificate.public_bytes(Encoding.DER))},
            "tlogEntries": [self._log(body, began + late)],
        }
        return {"mediaType": BUNDLE, "verificationMaterial": material, "dsseEnvelope": envelope}

    def _certify(self, public: CertificatePublicKeyTypes, identity: str, issuer: str, at: datetime) -> x509.Certificate:
        """Issue a certificate as Fulcio does: with the promise of the certificate log that it is kept there."""
        root = self._root_key.key
        name = x509.RFC822Name(identity) if "://" not in identity else x509.UniformResourceIdentifier(identity)
        usage = x509.KeyUsage(True, False, False, False, False, False, False, False, False)
        text = issuer.encode()
        issued = x509.UnrecognizedExtension(ObjectIdentifier("1.3.6.1.4.1.57264.1.1"), text)
        encoded = x509.UnrecognizedExtension(ObjectIdentifier("1.3.6.1.4.1.57264.1.8"), bytes((12, len(text))) + text)
        serial = x509.random_serial_number()
        builder = (
            x509.CertificateBuilder(self._root.subject, x509.Name([]), public, serial, at, at + _LIFE)
            .add_extension(usage, critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CODE_SIGNING]), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(root.public_key()), critical=False)
            .add_extension(x509.SubjectAlternativeName([name]), critical=True)
            .add_extension(issued, critical=False)
            .add_extension(encoded, critical=False)
        )
        promise = self._promise(builder.sign(root, SHA256()).tbs_certificate_bytes, at)
        return builder.add_extension(promise, critical=False).sign(root, SHA256())

    def _promise(self, certificate: bytes, at: datetime) -> x509.UnrecognizedExtension:
        """Return the certificate log's timestamp (RFC 6962, 3.2 and 3.3) of a certificate that is still without it."""
        time = pack(">Q", int(at.timestamp() * 1000))
        entry = b"\0\1" + self._root_key.id + pack(">I", len(certificate))[1:] + certificate
        signature = self._certificates.sign(b"\0\0" + time + entry + b"\0\0")
        timestamp = b"\0" + self._certificates.id + time + b"\0\0\4\3" + pack(">H", len(signature)) + signature
        listed = pack(">HH", len(timestamp) + 2, len(timestamp)) + timestamp
        value = bytes((4, len(listed))) + listed if len(listed) < 128 else bytes((4, 129, len(listed))) + listed
        return x509.UnrecognizedExtension(ExtensionOID.PRECERT_SIGNED_CERTIFICATE_TIMESTAMPS, value)

    def _log(self, body: bytes, at: datetime) -> Json:
        """Return the log's entry, the second of two, with the log's promise and its proof (RFC 6962, 2.1)."""
        first, second = (hashlib.sha256(b"\0" + leaf).digest() for leaf in (b"an entry before", body))
        root, time = hashlib.sha256(b"\1" + first + second).digest(), int(at.timestamp())
        promised = {"body": b64(body), "integratedTime": time, "logID": self._rekor.id.hex(), "logIndex": 1}
        note = f"{_ORIGIN}\n2\n{b64(root)}\n"
        signed = b64(self._rekor.id[:4] + self._rekor.sign(note.encode()))
        checkpoint = {"envelope": f"{note}\n\N{EM DASH} {_ORIGIN.split()[0]} {signed}\n"}
        return {
            "logIndex": "1",
            "logId": {"keyId": b64(self._rekor.id)},
            "kindVersion": {"kind": "dsse", "version": "0.0.1"},
            "integratedTime": str(time),
            "inclusionPromise": {"signedEntryTimestamp": b64(self._rekor.sign(encode(promised)))},
            "inclusionProof": {
                "logIndex": "1",
                "rootHash": b64(root),
                "treeSize": "2",
                "hashes": [b64(first)],
                "checkpoint": checkpoint,
            },
            "canonicalizedBody": b64(body),
        }
