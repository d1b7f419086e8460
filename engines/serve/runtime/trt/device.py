"""The door to a GPU: what the runtime needs of it, and no more. All work goes to one stream, in order."""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np

Host = np.ndarray[Any, np.dtype[Any]]


class Event(Protocol):
    """A place in the stream."""

    def query(self) -> bool:
        """Whether everything before it is done. Raises what went wrong meanwhile."""
        ...


class Device(Protocol):
    """One GPU with its context, used by one thread at a time. Addresses are integers.

    name: for people. capability: like "8.9". stream: the handle that TensorRT is given. Every call raises
    GpuFailed, GpuLost or EngineTooLarge.
    """

    name: str
    capability: str
    stream: int

    def bind(self) -> None:
        """Make the calling thread the one that uses the device, which no other thread may be using."""
        ...

    def unbind(self) -> None:
        """Let another thread bind it."""
        ...

    def memory(self) -> tuple[int, int]:
        """(free, total) in bytes, over all processes."""
        ...

    def allocate(self, size: int) -> int:
        """`size` zero bytes, kept until `close`."""
        ...

    def clear(self, address: int, size: int) -> None:
        """Make `size` bytes zero."""
        ...

    def pinned(self, size: int) -> Host:
        """uint8 [size] in host memory that the GPU reads and writes by itself."""
        ...

    def upload(self, address: int, source: Host) -> None:
        """Copy pinned memory to the device; it must not change before the copy is done."""
        ...

    def download(self, target: Host, address: int) -> None:
        """Copy from the device to pinned memory."""
        ...

    def launch(self, kernel: str, grid: tuple[int, int, int], threads: int, arguments: Sequence[Any]) -> None:
        """Run a kernel; arguments: numpy scalars in its order, addresses as uint64."""
        ...

    def record(self) -> Event: ...

    def capture(self, work: Callable[[], None]) -> Callable[[], None]:
        """Record what `work` enqueues, without running it; the result runs it again."""
        ...

    def close(self) -> None:
        """Give everything back. When it does not answer, leave that to the end of the process."""
        ...


def launch(device: Device, kernel: str, grid: tuple[int, int, int], threads: int, *arguments: Any) -> None:
    """Run a kernel; plain integers among the arguments are addresses."""
    device.launch(kernel, grid, threads, [np.uint64(a) if isinstance(a, int) else a for a in arguments])
