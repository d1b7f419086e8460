"""A cache for work on objects that are passed again and again but cannot be hashed, such as tool schemas."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class IdentityCache(Generic[T]):
    """Keeps `compute(objects)` for the last `size` lists of the very same objects, which must not be changed.

    The objects are kept as well, so that no other object can get their identity. Safe from any thread.
    """

    def __init__(self, compute: Callable[[Sequence[Any]], T], size: int = 64) -> None:
        self._compute, self._size = compute, size
        self._kept: OrderedDict[tuple[int, ...], tuple[Sequence[Any], T]] = OrderedDict()
        self._lock = threading.Lock()

    def __call__(self, objects: Sequence[Any]) -> T:
        key = tuple(map(id, objects))
        with self._lock:
            if (kept := self._kept.get(key)) is not None:
                self._kept.move_to_end(key)
                return kept[1]
        value = self._compute(objects)
        with self._lock:
            self._kept[key] = (list(objects), value)
            while len(self._kept) > self._size:
                self._kept.popitem(last=False)
        return value
