"""`python -m testbeds.model_server`: serve the model in `MODEL_DIR`, or else of `MODEL_URI`, until SIGTERM."""

import os
import sys

from testbeds.model_server.server import main

if __name__ == "__main__":
    sys.exit(main(os.environ))
