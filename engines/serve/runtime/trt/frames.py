"""Host memory of the steps in flight: what one step sends and gets stays untouched until it is done."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from engines.serve.runtime.trt.device import Device, Event, Host
from engines.serve.runtime.trt.layout import aligned
from engines.serve.runtime.trt.watchdog import wait_until


@dataclass(slots=True)
class Frame:
    """Pinned bytes and the event after which they may be used again."""

    host: Host
    done: Event | None = None
    used: int = 0


@dataclass(slots=True)
class Frames:
    """`count` frames of `size` bytes, used in turn. limit: seconds a step may take."""

    device: Device
    size: int
    count: int
    limit: float
    _frames: list[Frame] = field(init=False)
    _next: int = 0

    def __post_init__(self) -> None:
        self._frames = [Frame(self.device.pinned(self.size)) for _ in range(self.count)]

    def take(self) -> Frame:
        """The frame used longest ago, once its step is done. Raises StepHung."""
        frame = self._frames[self._next]
        self._next = (self._next + 1) % self.count
        if frame.done is not None:
            wait_until(frame.done.query, self.limit)
        frame.used, frame.done = 0, None
        return frame


def stage(device: Device, frame: Frame, address: int, arrays: Mapping[str, Host]) -> dict[str, int]:
    """Send arrays to the device at `address` in one copy; returns where each one is.

    Equal shapes in equal order get equal addresses, which captured steps rely on.
    """
    offsets, end = {}, 0
    for name, array in arrays.items():
        offsets[name] = end
        end = aligned(end + array.nbytes)
    begin = frame.used
    if begin + end > len(frame.host):
        raise ValueError(f"{end} bytes do not fit the {len(frame.host) - begin} left of a frame")
    for name, array in arrays.items():
        at = begin + offsets[name]
        frame.host[at : at + array.nbytes] = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    device.upload(address, frame.host[begin : begin + end])
    frame.used = begin + end
    return {name: address + offset for name, offset in offsets.items()}
