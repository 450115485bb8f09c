"""Image references in the OCI grammar, and which image a model version names."""

import re
from dataclasses import dataclass

# The grammar of distribution/reference (github.com/distribution/reference, regexp.go), matched whole.
_DOMAIN = r"(?:[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?(?:\.[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?)*(?::[0-9]+)?)"
_COMPONENT = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
_TAG = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}"
_DIGEST = r"sha256:[0-9a-f]{64}"
_REFERENCE = re.compile(
    rf"(?P<repository>(?:{_DOMAIN}/)?{_COMPONENT}(?:/{_COMPONENT})*)(?::(?P<tag>{_TAG}))?(?:@(?P<digest>{_DIGEST}))?"
)


@dataclass(frozen=True)
class ImageRef:
    """`repository[:tag][@digest]`, with the repository as it was written."""

    repository: str
    tag: str | None = None
    digest: str | None = None

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        digest = f"@{self.digest}" if self.digest else ""
        return f"{self.repository}{tag}{digest}"


def parse_image(text: str) -> ImageRef | None:
    """The reference that `text` is, whole; None when it is none (design rule 9)."""
    match = _REFERENCE.fullmatch(text)
    if match is None or len(match["repository"]) > 255:
        return None
    return ImageRef(match["repository"], match["tag"], match["digest"])
