"""Imported by each Python process of a pod that runs its image's own program: gives the pod addresses of its own.

A container has a network of its own, so servers listen on all addresses (0.0.0.0). Pods share this machine's: here, all
addresses means the pod's only one.
"""

import os
import socket
from typing import Any

_bind = socket.socket.bind


def _bind_to_the_pods_address(self: socket.socket, address: Any) -> None:
    if self.family == socket.AF_INET and address[0] in ("", "0.0.0.0"):
        address = (os.environ["HOST"], *address[1:])
    _bind(self, address)


socket.socket.bind = _bind_to_the_pods_address  # type: ignore[assignment, method-assign]
