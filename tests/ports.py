"""Ports for servers that tests start: other tests do so beside them."""

from __future__ import annotations

import secrets
import socket
from typing import Final

_LOWEST: Final = 10_000
_EPHEMERAL: Final = 32_768  # from here on Linux gives them to whoever asks for any


def free_port() -> int:
    """One of loopback that nobody listens on now, and that is given to nobody who asks for any."""
    while True:
        port = _LOWEST + secrets.randbelow(_EPHEMERAL - _LOWEST)
        try:
            with socket.create_server(("127.0.0.1", port)):
                return port
        except OSError:
            continue
