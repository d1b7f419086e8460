"""Tell systemd how we are: the sd_notify protocol (https://www.freedesktop.org/software/systemd/man/sd_notify.html)."""

import contextlib
import os
import socket


def notify(state: str) -> None:
    """Send `state` (as `READY=1`) to the service manager; without one this does nothing."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    if address.startswith("@"):  # the abstract namespace
        address = "\0" + address[1:]
    # A manager that does not listen any more must not take the daemon down with it.
    with (
        contextlib.suppress(OSError),
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock,
    ):
        sock.connect(address)
        sock.sendall(state.encode())


def watchdog_seconds() -> float | None:
    """How often systemd wants `WATCHDOG=1`, in seconds; None when it does not watch this process."""
    microseconds = os.environ.get("WATCHDOG_USEC")
    watched = os.environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
    return int(microseconds) / 1e6 if microseconds and watched else None
