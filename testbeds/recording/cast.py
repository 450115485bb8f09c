"""A command's output with its times, in asciinema's format (asciicast v2), so that `asciinema play` can replay it."""

import codecs
import json
import os
import pty
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

_ROWS = 40
_CHUNK_BYTES = 65536


@dataclass(frozen=True)
class Output:
    """What a command wrote to its terminal at one moment, in seconds since its start."""

    at: float
    text: str


@dataclass(frozen=True)
class Recording:
    """A command's whole output, on a terminal that is `columns` wide."""

    command: str
    columns: int
    outputs: tuple[Output, ...]


def record(command: Sequence[str], columns: int) -> tuple[Recording, int]:
    """Run a command in a terminal of its own, and show its output as it comes.

    Returns:
        The recording, and the command's exit code.
    """
    screen, terminal = pty.openpty()
    size = {"TERM": "xterm-256color", "COLUMNS": str(columns), "LINES": str(_ROWS)}
    began = time.monotonic()
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=terminal, stderr=terminal, env=os.environ | size
    )
    os.close(terminal)
    decode = codecs.getincrementaldecoder("utf-8")().decode
    outputs = []
    while chunk := _read(screen):
        text = decode(chunk).replace("\r", "")
        outputs.append(Output(round(time.monotonic() - began, 3), text))
        print(text, end="", flush=True)
    os.close(screen)
    return Recording(" ".join(command), columns, tuple(outputs)), process.wait()


def _read(screen: int) -> bytes:
    """The next output; empty when no process has the terminal open any more."""
    try:
        return os.read(screen, _CHUNK_BYTES)
    except OSError:  # Linux answers the last reader of a terminal with EIO instead of an end of file
        return b""


def save(recording: Recording, file: Path) -> None:
    """Write a recording, one JSON value per line."""
    header = {"version": 2, "width": recording.columns, "height": _ROWS, "command": recording.command}
    events = [[output.at, "o", output.text.replace("\n", "\r\n")] for output in recording.outputs]
    lines = [json.dumps(value, ensure_ascii=False) for value in (header, *events)]
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")


def load(file: Path) -> Recording:
    """Read a recording that `save` wrote."""
    header, *events = map(json.loads, file.read_text(encoding="utf-8").splitlines())
    outputs = tuple(Output(at, text.replace("\r", "")) for at, kind, text in events if kind == "o")
    return Recording(header["command"], header["width"], outputs)
