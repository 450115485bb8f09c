"""A place that needs no root, no container and no cloud: real services as ordinary processes on the loopback."""
