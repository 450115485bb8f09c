"""What the commands of `incumbent` do, in terms of the ports; `cli.py` parses their arguments and shows the result."""
