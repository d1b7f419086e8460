"""Where a request's journal is kept: small named notes that outlive the process."""

from collections.abc import Mapping
from typing import Protocol


class Notes(Protocol):
    """The notes of one request. `saved` is what earlier deliveries of it left, by name."""

    @property
    def saved(self) -> Mapping[str, bytes]: ...

    @property
    def limit_bytes(self) -> int:
        """The longest value that can be written."""

    async def write(self, notes: Mapping[str, bytes]) -> None:
        """Returns when the notes are kept and the request was still ours to work on at that moment.

        Never returns when it is another's by now: whoever waits is cancelled.
        """

    def write_soon(self, notes: Mapping[str, bytes]) -> None:
        """The same without waiting: kept before anything that is written later."""


class NoNotes:
    """For requests that nobody will ever deliver again."""

    saved: Mapping[str, bytes] = {}
    limit_bytes = 2**31

    async def write(self, notes: Mapping[str, bytes]) -> None:
        """Forgets them."""

    def write_soon(self, notes: Mapping[str, bytes]) -> None:
        """Forgets them."""
