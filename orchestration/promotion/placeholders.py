"""The placeholders of a policy's queries, which `policy.Slo` describes."""

import re

_NAMES = ("pods", "window", "namespace", "source")
PLACEHOLDER = re.compile(rf"\$({'|'.join(_NAMES)})\b")
_LIKE_ONE = re.compile(r"\$\{?[A-Za-z_]\w*\}?")


def placeholder_fault(query: str) -> str | None:
    """Say what in a query looks like a placeholder and is none; PromQL itself has no `$` before a letter."""
    for found in _LIKE_ONE.findall(query):
        if not PLACEHOLDER.fullmatch(found):
            return f"expected the placeholders {', '.join(f'${name}' for name in _NAMES)}, found {found}"
    return None
