"""Certificates and keys in the files that settings name, and which of them is at fault when they cannot be used."""

import ssl
from dataclasses import dataclass
from pathlib import Path

from orchestration.promotion.problems import DependencyError, Problem

_LARGEST = 4 * 1024 * 1024
"""Bytes of a file; the authorities that a machine trusts take a twentieth of it."""


@dataclass(frozen=True)
class TlsFile:
    """A file, and what names it: a setting, or a field of a kubeconfig."""

    path: Path
    setting: str

    def __str__(self) -> str:
        return f"file {self.path} of {self.setting}"


@dataclass(frozen=True)
class TlsFiles:
    """Who must have signed a server's certificate, and with which one we answer it."""

    authorities: TlsFile | None = None
    """A file or a folder of certificates; None for those that this machine trusts."""
    certificate: TlsFile | None = None
    key: TlsFile | None = None
    """None where the certificate's file has the key as well."""

    def context(self) -> ssl.SSLContext:
        """Read the files.

        Raises:
            DependencyError: one of them cannot be read, or is not what it should be.
        """
        context = self._trusting()
        if self.certificate is None:
            return context
        key = self.key or self.certificate
        certificate = _read(self.certificate, "a certificate in PEM")
        key_text = _read(key, "a private key in PEM")
        if "-----BEGIN CERTIFICATE" not in certificate:
            raise _unusable(self.certificate, "a certificate in PEM", "something else")
        if "PRIVATE KEY-----" not in key_text:
            raise _unusable(key, "a private key in PEM", "no key")

        def refuse_passphrase() -> str:  # in place of OpenSSL's question on the terminal, where nobody answers
            expected, found = "a key without a passphrase", "a key with a passphrase"
            raise _unusable(key, expected, found, "Write it without one: openssl pkey -in KEY -out FILE.")

        try:
            context.load_cert_chain(self.certificate.path, key.path, password=refuse_passphrase)
        except ssl.SSLError as error:
            if error.reason == "KEY_VALUES_MISMATCH":
                raise _unusable(key, f"the key of the certificate in {self.certificate}", "another key") from None
            # OpenSSL tells the place in its own code, and not the file.
            both = self.certificate if self.key is None else f"{self.certificate} and {key}"
            raise _unusable(both, "a certificate and its key in PEM", "something else") from None
        return context

    def _trusting(self) -> ssl.SSLContext:
        named = self.authorities
        if named is None:
            return ssl.create_default_context()
        expected = "certificates of authorities in PEM"
        if named.path.is_dir():
            return ssl.create_default_context(capath=str(named.path))
        _read(named, expected)
        try:
            return ssl.create_default_context(cafile=str(named.path))
        except ssl.SSLError:
            raise _unusable(named, expected, "something else") from None


def _read(file: TlsFile, expected: str) -> str:
    try:
        with file.path.open("rb") as opened:
            return opened.read(_LARGEST).decode("latin-1")
    except OSError as error:
        found = f"no file that can be read ({error.strerror or type(error).__name__})"
        raise _unusable(file, expected, found) from None


def _unusable(file: TlsFile | str, expected: str, found: str, next_step: str = "") -> DependencyError:
    advice = next_step or f"Correct the file, or {file.setting if isinstance(file, TlsFile) else 'one of the two'}."
    return DependencyError(Problem(str(file), expected, found, advice))
