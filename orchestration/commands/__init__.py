"""What the commands of `incumbent` and its sensor do, in terms of the ports; `cli` and `sensors.py` translate."""
