"""Signatures by an identity that Sigstore certified, without a key that anybody keeps, verified by `sigstore`.

The library verifies the certificate's chain, its identity and issuer, the proof that the certificate was logged, the
proof and the promise that the signature was logged, and that the certificate was valid then. It is asked for the
payload that it verified, so that nothing else is believed.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cryptography.x509 import DuplicateExtension, InvalidVersion

from orchestration.adapters.cosign import Envelope, claimed
from orchestration.adapters.importing import importing
from orchestration.adapters.oci_host import Content
from orchestration.adapters.paths import at_home
from orchestration.promotion.policy import CosignPolicy
from orchestration.promotion.problems import DependencyError, Problem
from orchestration.promotion.texts import one_line

if TYPE_CHECKING:
    from sigstore.verify import Verifier
    from sigstore.verify.policy import Identity

_PUBLIC = "the trusted root of the public Sigstore"
_LONGEST = 300
"""Characters of the library's words about one signature; a certificate may hold any text."""
_OLDER = "in cosign's older format, without a proof that it was logged (write bundles, as cosign 3 does)"


@dataclass(frozen=True)
class TrustedIdentity:
    """Implements `Signer` by an identity, its issuer and a trusted root."""

    verifier: "Verifier"
    identity: "Identity"
    root: str

    def fault_of(self, payload: bytes, signature: bytes) -> str | None:
        """Refuse what is in a tag beside the image: it has only the log's promise, which the library does not take."""
        return _OLDER

    def open(self, bundle: Content) -> Envelope:
        """Read a bundle and verify it.

        Raises:
            DependencyError: the trusted root lacks what the library needs.
        """
        from sigstore.errors import Error, MetadataError
        from sigstore.models import Bundle

        try:
            kind, payload = self.verifier.verify_dsse(Bundle.from_json(bundle.body), self.identity)
        except MetadataError as error:
            raise _untrusted(self.root, error) from None
        # A bundle may have anything in it, and a certificate another kind of key than the library verifies with.
        except (Error, DuplicateExtension, InvalidVersion, TypeError, ValueError) as error:
            return Envelope(*claimed(bundle), _words(error))
        return Envelope(kind, payload, None)


def trusted_identity(wanted: CosignPolicy) -> TrustedIdentity:
    """Return who must have signed, with the root that says so.

    Without a file in the policy, the library fetches the public Sigstore's root by TUF, and keeps it in the user's
    cache folder.

    Raises:
        DependencyError: the library is not installed, or the root cannot be read or fetched.
    """
    assert wanted.identity is not None, "a policy without a key names an identity"
    try:
        with importing:
            from sigstore.errors import Error
            from sigstore.models import TrustedRoot
            from sigstore.verify import Verifier
            from sigstore.verify.policy import Identity
    except ImportError as error:
        found, next_step = f"no such package ({error})", "Install it: pip install 'incumbent[sigstore]'."
        problem = Problem("sigstore, for signature.cosign.identity", "an installed package", found, next_step)
        raise DependencyError(problem) from None
    root = wanted.trusted_root
    try:
        verifier = Verifier(trusted_root=TrustedRoot.from_file(str(at_home(root)))) if root else Verifier.production()
    except (Error, OSError, ValueError) as error:
        raise _untrusted(root or _PUBLIC, error) from None
    return TrustedIdentity(verifier, Identity(identity=wanted.identity, issuer=wanted.issuer), root or _PUBLIC)


def _untrusted(root: str, error: Exception) -> DependencyError:
    words = _words(error)
    if root == _PUBLIC:
        problem = Problem(
            _PUBLIC,
            "one that can be fetched from tuf-repo-cdn.sigstore.dev, and kept in the user's cache folder",
            f"{words}{f' ({type(error.__cause__).__name__})' if error.__cause__ else ''}",
            "Let this machine reach it, or name a file in signature.cosign.trusted_root.",
        )
    else:
        expected = "a trusted root of Sigstore in JSON, as `cosign trusted-root create` writes it"
        next_step = "Correct the path in the policy, or write the file."
        problem = Problem(f"the file {root} of signature.cosign.trusted_root", expected, words, next_step)
    return DependencyError(problem)


def _words(error: Exception) -> str:
    """Put an error on one line, without pydantic's repetition of what it was given."""
    return one_line(getattr(error, "strerror", None) or str(error)).partition(" [type=")[0][:_LONGEST]
