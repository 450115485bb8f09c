"""The headers with which a model is asked: secret values are read from their files, and removed from the answer."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from orchestration.adapters.secret_files import read_secret
from orchestration.promotion.policy import HeaderFile
from orchestration.promotion.ports import Headers
from orchestration.promotion.redact import without_secrets


def read_headers(headers: Headers) -> dict[str, str]:
    """Read the value of each header.

    Raises:
        DependencyError: a file cannot be read, or has no value that a header can have.
    """
    return {name: _value(name, header) for name, header in headers.items()}


def secrets_of(headers: Headers, values: Mapping[str, str]) -> Iterator[str]:
    """Yield the texts that nothing may show: the values from files, with and without a word such as `Bearer`."""
    for name, header in headers.items():
        if isinstance(header, HeaderFile):
            yield values[name]
            yield values[name].rpartition(" ")[2]


def without_header_secrets(body: bytes, secrets: list[str]) -> bytes:
    """Remove secrets that a server repeats, in any encoding; a body without any comes back as it is."""
    if not secrets:
        return body
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError:
        for secret in secrets:
            body = body.replace(secret.encode("latin-1"), b"***")
        return body
    return without_secrets(text, secrets).encode()


def _value(name: str, header: str | HeaderFile) -> str:
    if isinstance(header, str):
        return header
    # Headers are bytes, and any text of them is written back as the same bytes.
    return read_secret(Path(header.file), f"the value of header {name}", "service.headers in the policy", "latin-1")
