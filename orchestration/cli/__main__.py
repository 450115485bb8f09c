"""`python -m orchestration.cli`, as the command `incumbent`."""

from orchestration.cli import main

main()
