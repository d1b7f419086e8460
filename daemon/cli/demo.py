"""`autoglm demo`: see the whole thing work in a minute."""

import sys


def demo() -> None:
    """Start a broker and the daemon, send a customer-service desk's requests, tell the story."""
    from daemon.demo.story import tell

    sys.exit(tell())
