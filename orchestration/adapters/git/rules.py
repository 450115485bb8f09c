"""Which setting a server's rule asks for, by the words with which it turned a push away.

The words are those of GitLab's push rules (docs.gitlab.com: Push rules), of GitHub's rulesets (docs.github.com:
Available rules for rulesets), and of what hooks usually say. They only choose the next step; nothing else depends on
them.
"""

import re

_RULES = (
    (r"sign(ed)?-?\s?off|\bDCO\b", "Add the trailer by INCUMBENT_GIT_TRAILERS: Signed-off-by=NAME <EMAIL>."),
    (r"\bsign(ed|ature)|unsigned|\bGPG\b", "Name a key that the server knows in INCUMBENT_GIT_SIGNING_KEY."),
    (
        r"commit[- ]m(essage|sg)|conventional|subject|message (must|does|should)|ticket|issue key",
        "Word the commits as the rule asks for by INCUMBENT_GIT_SUBJECT and INCUMBENT_GIT_TRAILERS.",
    ),
    (
        r"e-?mail|\bauthor\b|\bcommitter\b",
        "Name an author and a committer that the rule accepts in INCUMBENT_GIT_AUTHOR and INCUMBENT_GIT_COMMITTER.",
    ),
)
PERMISSION = (
    "Allow the token's owner to push to this branch, to refs/incumbent/* and to tags incumbent/* (protected branches, "
    "push rules, pre-receive hooks); or let the policy deliver by pull requests (delivery.pull_request, and its "
    "rollbacks)."
)


def next_step(reason: str) -> str:
    """Return what a person does about a push that a rule of the server turned away."""
    return next((step for words, step in _RULES if re.search(words, reason, re.IGNORECASE)), PERMISSION)
