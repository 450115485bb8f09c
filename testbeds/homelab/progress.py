"""What the homelab's long steps tell while they go on."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Say = Callable[[str], None]
"""Takes one line of progress."""


@contextmanager
def phase(what: str, say: Say) -> Iterator[None]:
    """Tell how long a step took, once it has ended well."""
    began = time.monotonic()
    yield
    say(f"{what}: {time.monotonic() - began:.1f} s")
