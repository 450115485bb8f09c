"""What the commands of `incumbent` do, in terms of the ports; `orchestration.cli` parses and prints."""
