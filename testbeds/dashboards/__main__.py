"""`python -m testbeds.dashboards`: draw Grafana's dashboards from a running Prometheus."""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from orchestration.promotion.problems import Problem, ProblemError
from testbeds.common.tools import CHECKOUT, one_at_a_time, tools_folder
from testbeds.dashboards.picture import picture
from testbeds.dashboards.prometheus import Prometheus
from testbeds.dashboards.questions import Span
from testbeds.dashboards.schema import Dashboard
from testbeds.homelab import settings

_DASHBOARDS = CHECKOUT / "manifests/platform/grafana/dashboards"
_PAGE = Path(__file__).with_name("page")
_IMAGES = CHECKOUT / "docs/images"
_BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_SECONDS = 1800
"""How long packages may take to install, and all pictures to be drawn."""


def main() -> int:
    options = _arguments()
    try:
        draw(Prometheus(options.prometheus), options.hours, options.out)
    except ProblemError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def draw(prometheus: Prometheus, hours: float, out: Path) -> None:
    """Draw each dashboard for the last hours as `dashboard-<name>.png`, and say which panels have nothing to show.

    Raises:
        ProblemError: a query is not answered, a program is missing, or a page cannot be drawn.
    """
    browser, drawing = _browser(), _drawing()
    now = time.time()
    with tempfile.TemporaryDirectory(prefix="dashboards-") as scratch:
        folder = Path(scratch)
        for file in sorted(_DASHBOARDS.glob("*.json")):
            dashboard = Dashboard.model_validate_json(file.read_text(encoding="utf-8"))
            content = picture(dashboard, Span(now - hours * 3600, now), prometheus.answer)
            (folder / f"dashboard-{file.name}").write_text(json.dumps(content), encoding="utf-8")
            empty = [panel.title for panel in dashboard.panels if not content["panels"][panel.id]]
            print(f"{file.stem}: {', '.join(empty) or 'no panel'} without data", flush=True)
        _run(["node", "draw.mjs", str(browser), str(folder)], drawing)
        out.mkdir(parents=True, exist_ok=True)
        for png in sorted(folder.glob("*.png")):
            print(shutil.move(png, out / png.name), flush=True)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m testbeds.dashboards", description=__doc__)
    parser.add_argument("--prometheus", default=settings.PROMETHEUS_URL, help="its URL (default: the homelab's)")
    parser.add_argument("--hours", type=float, default=3.0, help="how many hours up to now (default: 3)")
    parser.add_argument("--out", type=Path, default=_IMAGES, help="folder of the pictures (default: docs/images)")
    return parser.parse_args()


def _browser() -> Path:
    found = next((path for name in _BROWSERS if (path := shutil.which(name))), None)
    if found is None:
        raise _missing(f"one of {', '.join(_BROWSERS)} on PATH", "none", "Install it (`apt-get install chromium`).")
    return Path(found)


def _drawing() -> Path:
    """Install the locked packages into the tools' folder, beside the files that use them, unless they are there."""
    if shutil.which("npm") is None or shutil.which("node") is None:
        raise _missing("node and npm on PATH", "none", "Install them (`apt-get install nodejs npm`, Node 20 or later).")
    folder = tools_folder() / "dashboards"
    with one_at_a_time(tools_folder()):
        lock, installed = (_PAGE / "package-lock.json").read_bytes(), folder / "installed-lock.json"
        shutil.copytree(_PAGE, folder, dirs_exist_ok=True)
        if not installed.exists() or installed.read_bytes() != lock:
            print("installing the locked packages that draw; this takes minutes the first time", flush=True)
            _run(["npm", "ci", "--no-audit", "--no-fund"], folder)
            installed.write_bytes(lock)
    return folder


def _run(command: list[str], folder: Path) -> None:
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=_SECONDS)
    except subprocess.TimeoutExpired as error:
        raise _missing(
            "an end", f"none within {_SECONDS} s of {command[0]}", "Try again on an idle machine."
        ) from error
    if done.returncode != 0:
        step = "Mend what it says."
        raise _missing(f"exit code 0 of {' '.join(command[:2])}", f"{done.returncode}: {done.stderr[-2000:]}", step)


def _missing(expected: str, found: str, next_step: str) -> ProblemError:
    return ProblemError(Problem("drawing the dashboards", expected, found, next_step))


if __name__ == "__main__":
    sys.exit(main())
