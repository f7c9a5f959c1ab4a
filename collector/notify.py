"""Tells systemd how the service is (sd_notify): ready, alive, stopping. Does nothing outside systemd."""

from __future__ import annotations

import os
import socket


def notify(state: str) -> bool:
    """Send one ``KEY=value`` state; true when somebody was there to hear it (sd_notify(3))."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return False
    if address.startswith("@"):
        address = "\0" + address[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
        try:
            channel.sendto(state.encode(), address)
        except OSError:
            return False
    return True
