"""What a registry asks for in `WWW-Authenticate`: a list of challenges, as RFC 9110 (11.6.1) writes them."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

_WORD = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
# A scheme, or a parameter with its value. A value without quotes may hold more than the RFC allows, such as an address.
_PIECE = re.compile(rf'({_WORD})(?:\s*=\s*("(?:[^"\\]|\\.)*"|[^\s,"=][^\s,"]*))?')


@dataclass(frozen=True)
class Challenge:
    """One way to log in: its scheme and the names of its parameters are in lower case."""

    scheme: str
    parameters: Mapping[str, str]


def parse_challenges(header: str) -> tuple[Challenge, ...]:
    """Parse a header, or several that were joined with commas; what is no challenge is passed over."""
    challenges: list[tuple[str, dict[str, str]]] = []
    for name, value in _PIECE.findall(header):
        if not value:
            challenges.append((name.lower(), {}))
        elif challenges:
            plain = re.sub(r"\\(.)", r"\1", value[1:-1]) if value.startswith('"') else value
            challenges[-1][1].setdefault(name.lower(), plain)
    return tuple(Challenge(scheme, parameters) for scheme, parameters in challenges)


def choose_challenge(header: str) -> Challenge | None:
    """Return the challenge to answer: a token is preferred to a password; None when neither is asked for."""
    challenges = parse_challenges(header)
    tokens = (each for each in challenges if each.scheme == "bearer" and "realm" in each.parameters)
    passwords = (each for each in challenges if each.scheme == "basic")
    return next(tokens, None) or next(passwords, None)
