"""A recording of the demo as an SVG of its last page, in which each version's end has its reason.

It brings its own background, so that it looks the same on light and dark pages, and takes no font from elsewhere, since
GitHub shows pictures without.
"""

import io

from rich.console import Console
from rich.terminal_theme import TerminalTheme
from rich.text import Text

from testbeds.recording.cast import Recording

_FIRST_LINE = "Promotions "
"""How the demo's last page begins."""
_HINTS = "\n`make ui`"
"""What follows it: addresses of a testbed that has ended."""

_BLACK, _RED, _GREEN, _YELLOW = (72, 79, 88), (255, 123, 114), (63, 185, 80), (210, 153, 34)
_BLUE, _MAGENTA, _CYAN, _WHITE = (88, 166, 255), (188, 140, 255), (57, 197, 207), (177, 186, 196)
_THEME = TerminalTheme(
    background=(22, 27, 34),
    foreground=(201, 209, 217),
    normal=[_BLACK, _RED, _GREEN, _YELLOW, _BLUE, _MAGENTA, _CYAN, _WHITE],
)
_COLOURS = {
    r"^\$ .*$": "bold",
    r"^\[.*\]$": "dim",
    r"(?<=  )(Passed|champion$)": "green",
    r"(?<=  )(Failed|rolled back)|taken back|violated": "red",
    r"(?<=  )refused": "yellow",
}

_SVG = """\
<svg viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg" role="img">
<title>make demo</title>
<style>
.{unique_id}-matrix {{ font: {char_height}px ui-monospace, "SF Mono", Menlo, "DejaVu Sans Mono", monospace; }}
.{unique_id}-title {{ font: 16px system-ui, sans-serif; }}
{styles}
</style>
<defs>{lines}</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})">
{backgrounds}
<g class="{unique_id}-matrix">
{matrix}
</g>
</g>
</svg>
"""


def draw(recording: Recording) -> str:
    """The SVG of a recording.

    Raises:
        ValueError: the recording has no last page, or a line that is wider than its terminal.
    """
    output = "".join(output.text for output in recording.outputs)
    before, first, after = output.partition(f"\n{_FIRST_LINE}")
    if not first:
        raise ValueError(f"expected a line that begins with {_FIRST_LINE!r}, found none")
    page = (first + after).partition(_HINTS)[0].strip("\n")
    left_out = len(before.strip().splitlines())
    text = Text.from_ansi(f"$ {recording.command}\n[{left_out} lines of progress]\n\n{page}")
    if too_wide := [line.plain for line in text.split() if line.cell_len > recording.columns]:
        raise ValueError(f"expected lines of at most {recording.columns} columns, found {too_wide[0]!r}")
    for pattern, style in _COLOURS.items():
        text.highlight_regex(f"(?m){pattern}", style)
    console = Console(record=True, width=recording.columns, file=io.StringIO(), highlight=False)
    console.print(text)
    return console.export_svg(title=recording.command, theme=_THEME, code_format=_SVG, unique_id="demo")
