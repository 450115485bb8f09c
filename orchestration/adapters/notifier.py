"""The port of notifications, implemented with apprise: mail, Slack, ntfy, Teams, webhooks and many more.

An address holds secrets anywhere in it, so every piece of it is taken out of what apprise and the libraries below it
say, also where they log it (design rule 9).
"""

import logging
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from orchestration.adapters.exchange import excerpt
from orchestration.adapters.importing import importing
from orchestration.adapters.paths import path_of
from orchestration.promotion.notifying import Message
from orchestration.promotion.ports import Destination
from orchestration.promotion.problems import DependencyError, InvalidInputError, Problem
from orchestration.promotion.redact import redact

SEND_SECONDS = 30.0
"""How long one destination may take to accept a message."""
_LARGEST_FILE = 100_000
_SHORTEST_SECRET = 4
_PUNCTUATION = re.compile(r"[^\w.~-]+")
_secrets: ContextVar[tuple[str, ...] | None] = ContextVar("secrets", default=None)
"""What no log may show while an address is in use; apprise passes the context on to its threads."""


def read_destinations(file: str, listed: str) -> tuple[Destination, ...]:
    """Return the destinations of the settings, each with a name that shows nothing of its address.

    Args:
        file: The path of a file with one address per line; empty for none. `#` begins a comment line.
        listed: Addresses with white space between them.

    Raises:
        InvalidInputError: the file cannot be read.
    """
    lines = enumerate(_read(path_of(file, "INCUMBENT_NOTIFY_FILE")).splitlines(), start=1) if file else ()
    written = [(f"line {number} of {file}", line.strip()) for number, line in lines]
    given = [(f"address {number} of INCUMBENT_NOTIFY_URLS", url) for number, url in enumerate(listed.split(), start=1)]
    found: dict[str, Destination] = {}
    for name, address in (*written, *given):
        if address and not address.startswith("#"):
            found.setdefault(address, Destination(name, address))
    return tuple(found.values())


def _read(path: Path) -> str:
    def refuse(found: str) -> InvalidInputError:
        expected = "a readable text file with one address per line"
        return InvalidInputError(Problem("setting INCUMBENT_NOTIFY_FILE", expected, found, f"Correct {path}."))

    try:
        if not stat.S_ISREG(path.stat().st_mode):  # to open a named pipe would wait for a writer
            raise refuse("a folder, pipe or device")
        with path.open("rb") as file:
            content = file.read(_LARGEST_FILE + 1)
        if len(content) > _LARGEST_FILE:
            raise refuse(f"a file of more than {_LARGEST_FILE:,} bytes")
        return content.decode("utf-8-sig")
    except OSError as error:
        raise refuse(error.strerror or type(error).__name__) from error
    except UnicodeDecodeError:
        raise refuse("bytes that are not UTF-8") from None  # the exception holds the file's content


class AppriseNotifier:
    """Implements the `Notifier` port; importing apprise is left to the first message."""

    def send(self, destination: Destination, message: Message) -> None:
        """Send a message once, within `SEND_SECONDS`.

        Raises:
            DependencyError: the destination did not take it, or apprise cannot use its address.
        """
        with _concealed(destination.address) as secrets:
            try:
                found = _send(destination.address, message)
            except Exception as error:  # noqa: BLE001 - more than a hundred services, each with its own exceptions
                found = f"an unexpected {type(error).__name__}"  # its text may quote the address
        if found is not None:
            next_step = "Correct the address or the service; incumbent notify-test shows whether it works."
            problem = Problem(destination.name, "that it takes a message", excerpt(found, secrets), next_step)
            raise DependencyError(problem)


def _send(address: str, message: Message) -> str | None:
    """Send a message and return why it was not taken; None when it was."""
    with importing:
        import apprise

    asset = apprise.AppriseAsset(app_id="incumbent", app_desc="incumbent", service_timeout=SEND_SECONDS)
    service = apprise.Apprise.instantiate(address, asset=asset)
    if service is None:
        return "an address that apprise cannot use"
    result = apprise.Apprise(service, asset=asset).notify(
        message.body,
        message.title,
        notify_type=apprise.NotifyType(message.tone.value),
        body_format=apprise.NotifyFormat.TEXT,
    )
    if result:
        return None
    if result.status is apprise.AppriseResultStatus.TIMEOUT:
        return f"no answer within {SEND_SECONDS:.0f} s"
    said = " ".join(entry.message.rstrip(".") for sent in result for entry in sent.logs())
    return f'"{said}"' if said else "a failure without a reason"


@contextmanager
def _concealed(address: str) -> Iterator[tuple[str, ...]]:
    """Keep an address out of everything that is logged in this context; yield what no text may show."""
    pieces = {piece for form in (address, unquote(address)) for piece in _PUNCTUATION.split(form.partition("://")[2])}
    secrets = (address, *(piece for piece in pieces if len(piece) >= _SHORTEST_SECRET))
    _conceal_in_logs()
    token = _secrets.set(secrets)
    try:
        yield secrets
    finally:
        _secrets.reset(token)


@cache
def _conceal_in_logs() -> None:
    """Redact what is logged while an address is in use, by whichever library, before any handler sees it."""
    create = logging.getLogRecordFactory()

    def create_redacted(*arguments: Any, **named: Any) -> logging.LogRecord:
        record = create(*arguments, **named)
        secrets = _secrets.get()
        if secrets is not None:
            record.msg, record.args = redact(_text(record), secrets), ()
            record.exc_info = record.exc_text = record.stack_info = None
        return record

    logging.setLogRecordFactory(create_redacted)


def _text(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except (TypeError, ValueError, KeyError):  # logging itself would only report it
        return "a message with other arguments than it names"
