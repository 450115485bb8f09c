"""`python -m testbeds.known_servers`: install all servers, so that nothing later needs a network."""

import argparse
import sys

from orchestration.promotion.problems import ProblemError
from testbeds.known_servers.environments import NEWEST_PYTHON, find_environment, lock


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m testbeds.known_servers", description=__doc__)
    parser.add_argument(
        "--lock", action="store_true", help="resolve each requirements.in again instead, and write its lock"
    )
    options = parser.parse_args()
    try:
        for name in NEWEST_PYTHON:
            if options.lock:
                lock(name)
            else:
                print(f"{name}: {find_environment(name)}")
    except ProblemError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
