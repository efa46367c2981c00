"""What a look leaves for others to see: a file that is there only after a look that passed, and systemd's STATUS=."""

from __future__ import annotations

import os
import socket
from pathlib import Path

from mmdoctor.errors import UsageError


def cleared(file: Path) -> None:
    """Delete the readiness file, before anything is looked at. Raises UsageError where that is not allowed."""
    try:
        file.unlink(missing_ok=True)
    except OSError as error:
        raise UsageError(f"cannot delete {file}: {error.strerror}", hint="name another file with --ready") from error


def tell_systemd(status: str) -> None:
    """Send `STATUS=` as sd_notify(3) does; nothing where $NOTIFY_SOCKET is not set. Raises OSError where it is set and
    nobody listens there."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    if address.startswith("@"):  # an abstract socket
        address = "\0" + address[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
        sender.sendto(f"STATUS={status}".encode(), address)
