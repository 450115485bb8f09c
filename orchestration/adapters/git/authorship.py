"""Who commits say made them, how their subjects are worded, and with whose key they are signed: push rules ask."""

import re
import string
from collections.abc import Mapping
from dataclasses import dataclass, field

from orchestration.adapters.git.objects import Maker, Person, commit_message, one_line
from orchestration.promotion.identity import parse_promotion_id
from orchestration.promotion.ports import FileEdit, Sign
from orchestration.promotion.problems import InvalidInputError, Problem

CONVENTIONAL = "conventional"
_CONVENTIONAL = "{type}({policy}): {description}"
"""conventionalcommits.org 1.0.0. commitlint's usual rules want a description that begins with a small letter."""
PLAIN = "{subject}"
_FIELDS = ("subject", "description", "policy", "type")
_PERSON = re.compile(r"([^<>\s](?:[^<>\n\r\t]*[^<>\s])?) <([^<>@\s]+@[^<>@\s]+)>")
_TRIMMED = " .,:;<>\"\\'"
"""What Git takes off both ends of a name (`crud` in its ident.c); a name of nothing else it refuses."""
_TRAILER_KEY = re.compile(r"[A-Za-z][A-Za-z0-9-]*")
_READ_TRAILERS = frozenset(
    (
        *("promotion-id", "rollback-of", "returns-from", "requested-at", "model", "model-version", "model-address"),
        *("mlflow-run", "image-digest", "retried-because", "live-before", "verdict", "image", "reason", "by"),
    )
)
"""In small letters, as Git compares them: what the pipeline reads, no setting may say."""


@dataclass(frozen=True)
class Authorship:
    """What of a commit is a matter of taste or of the server's rules, and never of the promotion."""

    maker: Maker = field(default_factory=Maker)
    subject: str = PLAIN
    """A template of subjects."""
    trailers: Mapping[str, str] = field(default_factory=dict)
    """Added to those of the pipeline."""

    @property
    def is_plain(self) -> bool:
        """Whether messages are as the pipeline words them."""
        return self.subject == PLAIN and not self.trailers

    def message_of(self, edit: FileEdit) -> str:
        """Return the whole message of an edit's commit.

        Raises:
            ValueError: a key cannot be a trailer's name.
        """
        owner = edit.trailers.get("Promotion-Id") or edit.trailers.get("Rollback-Of") or ""
        identity = parse_promotion_id(owner)
        policy = identity.policy if identity is not None else "policy"
        kind = "revert" if "Rollback-Of" in edit.trailers else "chore"
        return self.message(edit.subject, policy, kind, edit.body, edit.trailers)

    def message(self, subject: str, policy: str, kind: str, body: str, trailers: Mapping[str, str]) -> str:
        """Compose a message.

        Args:
            subject: What the commit does, as the pipeline words it.
            policy: Whose commit it is.
            kind: The type of Conventional Commits.
            body: Its second paragraph.
            trailers: Those of the pipeline.
        """
        plain = one_line(subject)
        small = plain[:1].lower() + plain[1:]
        worded = self.subject.format(subject=plain, description=small, policy=policy, type=kind)
        return commit_message(worded, body, {**trailers, **self.trailers})


def parse_authorship(
    author: str, committer: str, subject: str, trailers: Mapping[str, str], sign: Sign | None
) -> Authorship:
    """Read the settings of commits; each may be empty.

    Args:
        author: `NAME <EMAIL>`.
        committer: the same; empty for the author.
        subject: `conventional`, or a template with the fields `{subject}`, `{description}`, `{policy}` and `{type}`.
        trailers: further trailers of each commit.
        sign: signs each commit.

    Raises:
        InvalidInputError: a setting is not of that form.
    """
    who = _person("INCUMBENT_GIT_AUTHOR", author) if author else Person()
    template = _CONVENTIONAL if subject == CONVENTIONAL else subject or PLAIN
    _check_template(template)
    maker = Maker(who, _person("INCUMBENT_GIT_COMMITTER", committer) if committer else who, sign)
    return Authorship(maker, template, dict(trailers))


def _person(setting: str, text: str) -> Person:
    match = _PERSON.fullmatch(text)
    if match is None or not text.isprintable() or not match[1].strip(_TRIMMED):
        expected = "a name with a letter or digit and an e-mail address, such as Model Bot <models@example.com>"
        raise InvalidInputError(Problem(f"setting {setting}", expected, repr(text), "Correct it."))
    return Person(match[1], match[2])


def _check_template(template: str) -> None:
    """Refuse a template that could not be filled in, or would lose what the commit does."""
    try:
        parts = list(string.Formatter().parse(template))
    except ValueError:
        parts = [("", "?", "", None)]
    names = [name for _, name, _, _ in parts if name is not None]
    is_plain = all(
        name in _FIELDS and not spec and not conversion for _, name, spec, conversion in parts if name is not None
    )
    if is_plain and template.isprintable() and {"subject", "description"} & set(names):
        return
    raise InvalidInputError(
        Problem(
            "setting INCUMBENT_GIT_SUBJECT",
            f"{CONVENTIONAL}, or one line with {{subject}} or {{description}} in it, perhaps {{policy}} and {{type}}",
            repr(template),
            "Correct it, such as: [OPS-12] {subject}.",
        )
    )


def trailer_fault(key: str, value: str) -> str | None:
    """Say why a setting may not add a trailer; None for one line that is not one of those that the pipeline reads."""
    if not _TRAILER_KEY.fullmatch(key):
        return "a trailer's name has letters, digits and dashes alone"
    if not value:
        return "a trailer has a value"
    if one_line(value) != value:
        return "a value is one line of visible characters with single spaces"
    if key.lower() in _READ_TRAILERS:
        return f"{key} is a trailer that the pipeline itself writes and reads"
    return None
