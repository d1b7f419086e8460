"""Token ids in, text out, a piece at a time."""

import codecs
from collections.abc import Callable, Iterable


class TextStream:
    """Decodes incrementally: a character spread over several tokens comes out when it is whole.

    What `push` and `finish` return, joined, equals `Tokenizer.decode` of all ids.
    """

    def __init__(self, bytes_of: Callable[[int], bytes]) -> None:
        self._bytes_of = bytes_of
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def push(self, ids: Iterable[int]) -> str:
        """The text that `ids` complete; empty while a character is still open."""
        return self._decoder.decode(b"".join(map(self._bytes_of, ids)))

    def finish(self) -> str:
        """What is still open when the tokens end: U+FFFD for a broken character, else nothing."""
        return self._decoder.decode(b"", final=True)
