"""Recordings of a command's output with its times, in asciinema's format (asciicast v2), so that they can be replayed."""

import json
import os
import pty
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

_CHUNK = 65536


@dataclass(frozen=True)
class Output:
    """What a command wrote to its terminal at one moment, in seconds since its start."""

    at: float
    text: str


@dataclass(frozen=True)
class Recording:
    """A command's whole output."""

    command: str
    columns: int
    outputs: tuple[Output, ...]

    @property
    def text(self) -> str:
        return "".join(output.text for output in self.outputs).replace("\r\n", "\n")


def record(command: Sequence[str], columns: int, rows: int = 50) -> tuple[Recording, int]:
    """Run a command in a terminal of that size and record its output; the second value is its exit code.

    The output is also shown as it comes.
    """
    master, slave = pty.openpty()
    environment = os.environ | {"TERM": "xterm-256color", "COLUMNS": str(columns), "LINES": str(rows)}
    began = time.monotonic()
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=slave, stderr=slave, env=environment, close_fds=True
    )
    os.close(slave)
    outputs = []
    with os.fdopen(master, "rb", buffering=0) as terminal:
        while chunk := _read(terminal.fileno()):
            text = chunk.decode("utf-8")
            outputs.append(Output(round(time.monotonic() - began, 3), text))
            print(text, end="", flush=True)
    return Recording(" ".join(command), columns, tuple(outputs)), process.wait()


def _read(terminal: int) -> bytes:
    """The next output; empty when the last process that had the terminal open has ended."""
    try:
        return os.read(terminal, _CHUNK)
    except OSError:  # Linux answers with EIO once nobody has the other end open
        return b""


def save(recording: Recording, file: Path, rows: int = 50) -> None:
    header = {"version": 2, "width": recording.columns, "height": rows, "command": recording.command}
    lines = [header, *([output.at, "o", output.text] for output in recording.outputs)]
    file.write_text("".join(f"{json.dumps(line, ensure_ascii=False)}\n" for line in lines), encoding="utf-8")


def load(file: Path) -> Recording:
    header, *events = map(json.loads, file.read_text(encoding="utf-8").splitlines())
    outputs = tuple(Output(float(at), text) for at, kind, text in events if kind == "o")
    return Recording(header["command"], header["width"], outputs)
