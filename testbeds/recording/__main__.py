import sys
from pathlib import Path
from testbeds.recording.cast import record, save
r, code = record(["make", "demo"], 100)
save(r, Path("/tmp/demo.cast"))
sys.exit(code)
