"""`python -m testbeds.model_server`: serve the model that `MODEL_DIR` holds or `MODEL_URI` names, until SIGTERM."""

import os
import sys

from testbeds.model_server.server import main

if __name__ == "__main__":
    sys.exit(main(os.environ))
