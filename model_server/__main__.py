"""`python -m model_server`: serve the model in `MODEL_DIR`, or else of `MODEL_URI`, until SIGTERM."""

import os
import sys

from model_server.server import main


def run() -> int:
    """Serve as the environment says, and return the exit code."""
    return main(os.environ)


if __name__ == "__main__":
    sys.exit(run())
