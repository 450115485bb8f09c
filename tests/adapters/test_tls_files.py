"""Certificates and keys in files: which setting is at fault, whatever is wrong with its file."""

import ssl
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from orchestration.adapters.tls_files import TlsFile, TlsFiles
from orchestration.promotion.problems import DependencyError
from testbeds.common.certificates import self_signed

AUTHORITIES, CERTIFICATE, KEY = "SETTING_CA", "SETTING_CERT", "SETTING_KEY"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Files that can be used, and some that cannot."""
    (certificate, key), (_, other) = self_signed("localhost"), self_signed("localhost")
    encrypted = load_pem_private_key(key.encode(), None).private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"passphrase")
    )
    begin, first, rest = certificate.split("\n", 2)
    broken = "\n".join((begin, first[::-1], rest))
    files = {"certificate": certificate, "key": key, "other": other, "encrypted": encrypted.decode(), "empty": ""}
    files |= {"both": certificate + key, "text": "hello", "broken": broken, "locked": certificate + encrypted.decode()}
    for name, content in files.items():
        (tmp_path / name).write_text(content)
    return tmp_path


def files_of(folder: Path, authorities: str, certificate: str, key: str) -> TlsFiles:
    named = ((authorities, AUTHORITIES), (certificate, CERTIFICATE), (key, KEY))
    return TlsFiles(*(TlsFile(folder / name, setting) if name else None for name, setting in named))


@pytest.mark.parametrize(
    ("authorities", "certificate", "key"),
    [("certificate", "certificate", "key"), ("", "both", ""), ("certificate", "", ""), (".", "", "")],
)
def test_files_that_can_be_used_are_read(folder: Path, authorities: str, certificate: str, key: str) -> None:
    """In one file or two, and authorities also in a folder."""
    context = files_of(folder, authorities, certificate, key).context()
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert (context.cert_store_stats()["x509"] == 1) == (authorities == "certificate")


@pytest.mark.parametrize(
    ("authorities", "certificate", "key", "said"),
    [
        ("missing", "", "", rf"missing of {AUTHORITIES}: .*No such file.*or {AUTHORITIES}\."),
        ("empty", "", "", rf"empty of {AUTHORITIES}: .*found something else"),
        ("key", "", "", rf"key of {AUTHORITIES}: .*found something else"),
        ("broken", "", "", rf"broken of {AUTHORITIES}: .*found something else"),
        ("", "missing", "key", rf"missing of {CERTIFICATE}: .*No such file.*or {CERTIFICATE}\."),
        ("", "certificate", "missing", rf"missing of {KEY}: .*No such file.*or {KEY}\."),
        ("", ".", "key", rf"of {CERTIFICATE}: .*Is a directory"),
        ("", "certificate", ".", rf"of {KEY}: .*Is a directory"),
        ("", "text", "key", rf"text of {CERTIFICATE}: expected a certificate in PEM, found something else"),
        ("", "certificate", "text", rf"text of {KEY}: expected a private key in PEM, found no key"),
        ("", "key", "certificate", rf"key of {CERTIFICATE}: expected a certificate in PEM"),
        ("", "certificate", "", rf"certificate of {CERTIFICATE}: expected a private key in PEM, found no key"),
        ("", "certificate", "other", rf"other of {KEY}: expected the key of the certificate in .*found another key"),
        ("", "broken", "key", rf"broken of {CERTIFICATE} and .*key of {KEY}: .*found something else"),
        ("", "certificate", "encrypted", rf"encrypted of {KEY}: .*found a key with a passphrase\. Write it without"),
        ("", "locked", "", rf"locked of {CERTIFICATE}: .*found a key with a passphrase"),
    ],
)
def test_what_is_wrong_is_named_by_its_setting(
    folder: Path, authorities: str, certificate: str, key: str, said: str
) -> None:
    """A file that is missing, a folder, something else, a key that belongs elsewhere, and one that is locked."""
    with pytest.raises(DependencyError, match=said) as caught:
        files_of(folder, authorities, certificate, key).context()
    assert "BEGIN" not in str(caught.value)
