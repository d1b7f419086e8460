"""What a kind of payload is: a way to turn its data into text for the model."""

from typing import Any, ClassVar, Protocol


class PayloadKind(Protocol):
    """`text` raises ValueError, in words for the caller, when `data` is not of this kind."""

    name: ClassVar[str]

    def text(self, data: Any) -> str: ...


def string(data: Any) -> str:
    """`data` if it is a string, without the byte order mark of the file that it may come from.

    Raises ValueError.
    """
    if not isinstance(data, str):
        raise ValueError("`data` must be a string")
    return data.removeprefix("\ufeff")
