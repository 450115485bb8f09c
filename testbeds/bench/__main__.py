"""`python -m testbeds.bench`: what a promotion costs and what it does not depend on, as a table, a file and curves."""

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from orchestration.promotion.problems import ProblemError
from testbeds.bench import promotions, sizes
from testbeds.bench.picture import draw
from testbeds.bench.rows import Curve, Row, curve_lines, row_lines
from testbeds.common.processes import die_with_parent
from testbeds.common.tools import CHECKOUT
from testbeds.sandbox.environment import SandboxEnvironment
from testbeds.sandbox.sandbox import Sandbox
from testbeds.story.stories import StoryStuckError

_RESULTS = CHECKOUT / "bench" / "results"
_IMAGES = CHECKOUT / "docs" / "images"
_SOAK = ("soak: 10s", "soak: 3s")
"""Shorter than in the sandbox's stories: no row counts the soak, and twenty promotions wait for theirs."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m testbeds.bench", description=__doc__)
    parser.add_argument("--times", type=int, default=10, help="promotions for each row (default: %(default)s)")
    parser.add_argument("--policies", type=int, default=1000, help="policies beside the one that is due")
    parser.add_argument("--no-files", action="store_true", help="print the tables alone, and write no file")
    options = parser.parse_args()
    die_with_parent()
    began = time.monotonic()
    try:
        rows = _rows(options.times, options.policies)
        curves = _curves()
    except (ProblemError, StoryStuckError) as error:
        print(error, file=sys.stderr)
        return 1
    print("\n".join(["", *row_lines(rows), "", *curve_lines(curves)]))
    print(f"\n{time.monotonic() - began:.0f} s in all")
    if not options.no_files:
        _write(rows, curves)
    return 0


def _rows(times: int, policies: int) -> list[Row]:
    with tempfile.TemporaryDirectory(prefix="bench ") as state, Sandbox(Path(state)) as sandbox:
        environment = SandboxEnvironment(sandbox)
        _shorten_soak(environment)
        environment.start_client()
        environment.start_dagster()
        promotions.promote(environment, _say)  # the first one imports and clones what the others find at hand
        seen = promotions.idle(environment, _say)
        rows = [*promotions.idle_rows(seen), *promotions.alias_to_commit(environment, times, seen, _say)]
        rows.append(promotions.alias_to_commit_when_busy(environment, times, _say))
        rows.append(promotions.requested_among(environment, 2, times // 2, _say))
        rows.append(promotions.requested_among(environment, policies, times // 2, _say))
        environment.stop_dagster()
        return rows


def _shorten_soak(environment: SandboxEnvironment) -> None:
    file = Path(environment.settings()["INCUMBENT_POLICIES"]) / f"{environment.policy}.yaml"
    text = file.read_text(encoding="utf-8")
    assert text.count(_SOAK[0]) == 1, f"{file} has another soak"
    file.write_text(text.replace(*_SOAK), encoding="utf-8")


def _curves() -> list[Curve]:
    _say("manifests of up to 4 MB")
    curves = [*sizes.over_manifests()]
    _say("repositories of up to 100,000 files")
    curves.append(sizes.over_files())
    _say("branches of up to 10,000 commits")
    curves.append(sizes.over_commits())
    return curves


def _write(rows: Sequence[Row], curves: Sequence[Curve]) -> None:
    now = datetime.now(UTC)
    result = {
        "at": now.isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "processors": os.cpu_count(),
        "load": os.getloadavg(),
        "rows": [row.as_json() for row in rows],
        "curves": [curve.as_json() for curve in curves],
    }
    _RESULTS.mkdir(parents=True, exist_ok=True)
    file = _RESULTS / f"{now:%Y-%m-%d}.json"
    file.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    picture = _IMAGES / "bench.svg"
    draw(curves, picture)
    print(f"written: {file.relative_to(CHECKOUT)}, {picture.relative_to(CHECKOUT)}")


def _say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main())
