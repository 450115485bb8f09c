"""What the commands of `incumbent` do, in terms of the ports; `cli.py` parses arguments and prints the outcome."""
