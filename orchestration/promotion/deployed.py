"""What a promotion deploys, an image or the address of a model, and where a workload has it.

Both have a digest, by which Git, leases, approvals and people know what was deployed: an image its own, an address the
sha256 of its text. An address is a text with a scheme, which no image reference has.
"""

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from orchestration.promotion.images import ImageRef, is_digest, is_same_image, parse_image, short_digest
from orchestration.promotion.model_version import named_version

# Without quotes, blanks, control characters, escapes (%), queries (?), fragments (#) and what a shell, YAML or
# Kubernetes expands: whoever reads an address must read the same.
_ADDRESS = re.compile(r"(?P<scheme>[a-z][a-z0-9+.-]*):/(?P<rest>[A-Za-z0-9._~=+:@/-]+)")
_LONGEST = 500
"""Characters; MLflow keeps no longer ones."""
_CONTAINER_BEFORE_HOST = frozenset(("abfs", "abfss", "wasb", "wasbs"))
"""Azure's schemes, in which what stands before the @ is a container and no login."""
_LOGGED_MODEL = re.compile(r"models:/m-[0-9a-f]+")


@dataclass(frozen=True)
class ModelAddress:
    """The address by which a server finds its model, such as `models:/iris/7`."""

    text: str

    @property
    def digest(self) -> str:
        """The sha256 of the text. It tells addresses apart, and says nothing about what is found there."""
        return f"sha256:{hashlib.sha256(self.text.encode()).hexdigest()}"

    @property
    def version(self) -> tuple[str, int] | None:
        """Model and number, when it names a registered version; None for any other place."""
        return named_version(self.text)

    @property
    def is_fixed(self) -> bool:
        """Whether it names the same model tomorrow: an alias, a stage and `latest` may be moved to another one."""
        named = self.version is not None or _LOGGED_MODEL.fullmatch(self.text) is not None
        return named or not self.text.startswith("models:")

    def __str__(self) -> str:
        return self.text


Deployed = ImageRef | ModelAddress


def parse_address(text: str) -> ModelAddress | None:
    """Parse `text` as an address; None unless every program would read it alike, and it holds no login."""
    match = _ADDRESS.fullmatch(text)
    if match is None or len(text) > _LONGEST:
        return None
    host, path = "", match["rest"]
    if path.startswith("/"):
        host, _, path = path[1:].partition("/")
    login, at, _ = host.rpartition("@")
    if at and (":" in login or match["scheme"] not in _CONTAINER_BEFORE_HOST):
        return None
    segments = path.removesuffix("/").split("/") if path else []
    if {"", ".", ".."} & set(segments) or not (host or segments):
        return None
    return ModelAddress(text)


def parse_deployed(text: str) -> Deployed | None:
    """Parse `text` as an image reference or an address; None when it is neither."""
    return parse_address(text) or parse_image(text)


def pinned_digest(deployed: Deployed) -> str:
    """Return the digest of an address, or of an image that is pinned by it."""
    assert deployed.digest is not None, "what is deployed is always pinned by a digest"
    return deployed.digest


def digest_of(text: str) -> str | None:
    """Return the digest of what a text names; None for an image without one, and for what is neither."""
    deployed = parse_deployed(text)
    return deployed.digest if deployed is not None else None


def image_key(image: str) -> str:
    """Return what tells images, or addresses, apart: the first 12 digits of the digest, or else the whole reference."""
    digest = image if is_digest(image) else digest_of(image)
    return short_digest(digest) if digest is not None else image


def is_same(live: str, wanted: str) -> bool:
    """Whether two texts name the same image or address, and the live one is what is wanted."""
    running, expected = parse_deployed(live), parse_deployed(wanted)
    if isinstance(running, ImageRef) and isinstance(expected, ImageRef):
        return is_same_image(running, expected)
    return running is not None and running == expected


@dataclass(frozen=True)
class Slot:
    """Where a workload has what is deployed."""

    kind: Literal["image", "variable", "argument", "storageUri"]
    name: str = ""
    """Of a variable in a container's `env`, or of an argument of its command."""

    @property
    def noun(self) -> str:
        """What a person calls what it holds: `image` or `address`."""
        return "address" if self.holds_address else "image"

    @property
    def holds_address(self) -> bool:
        """Whether the address of a model stands there, and not an image."""
        return self.kind != "image"

    def __str__(self) -> str:
        return f"{self.kind} {self.name}".rstrip()


IMAGE = Slot("image")


def find_argument(arguments: Sequence[str], name: str) -> Iterator[tuple[int, str]]:
    """Find where a command's arguments have the value of one of them.

    Args:
        arguments: The command and its arguments.
        name: The argument, such as `--model-uri`.

    Yields:
        The position of the text that holds the value, and what stands before the value in it: `--model-uri=`, or
        nothing when the value is the text after the argument.
    """
    for at, text in enumerate(arguments):
        if text.startswith(f"{name}="):
            yield at, f"{name}="
        elif text == name:
            yield at + 1, ""
