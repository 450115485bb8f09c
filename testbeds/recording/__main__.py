"""`python -m testbeds.recording`: record `make demo` again, and draw the README's picture of it."""

import argparse
import sys
from pathlib import Path

from testbeds.recording.cast import load, record, save
from testbeds.recording.picture import draw

_IMAGES = Path(__file__).resolve().parents[2] / "docs" / "images"
_CAST, _PICTURE = _IMAGES / "demo.cast", _IMAGES / "demo.svg"
_COLUMNS = 100


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m testbeds.recording", description=__doc__)
    parser.add_argument("--draw-only", action="store_true", help="draw the recording that is there")
    if not parser.parse_args().draw_only:
        # When a make runs this, the inner one would print the checkout's path.
        recording, code = record(["make", "--no-print-directory", "demo"], _COLUMNS)
        if code != 0:
            print(f"make demo: expected exit code 0, found {code}. Nothing was written.", file=sys.stderr)
            return 1
        save(recording, _CAST)
    _PICTURE.write_text(draw(load(_CAST)), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
