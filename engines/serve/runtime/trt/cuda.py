"""A GPU through PyCUDA."""

import importlib
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np

from engines.errors import DeviceNotFound, GpuFailed, KernelError
from engines.serve.kernels.sources import KERNELS, ptx
from engines.serve.runtime.trt import driver
from engines.serve.runtime.trt.choice import choose_device
from engines.serve.runtime.trt.device import Event, Host
from engines.serve.runtime.trt.faults import fault
from engines.serve.runtime.trt.watchdog import answers, keep_for_ever

_thread = threading.local()  # device: whose context is current, at most one per thread


def _bound() -> "CudaDevice | None":
    return getattr(_thread, "device", None)


def _leave() -> None:
    device, _thread.device = _bound(), None
    if device is not None:
        device.pop()


class CudaDevice:
    """See Device. Opened with its own context, bound to the calling thread."""

    def __init__(self, wanted: str | int | None = None) -> None:
        """wanted: index or UUID, None for the first. Raises DeviceNotFound, KernelError, GpuFailed."""
        self._cuda = _pycuda()
        self.name = "the GPU"
        self._kernels: dict[str, Any] = {}
        self._kept: list[Any] = []
        self._stream: Any = None
        try:
            self._cuda.init()
        except self._cuda.Error as error:
            raise DeviceNotFound(f"no CUDA device can be used ({error}); see nvidia-smi") from error
        with self._faults():
            uuids = [driver.device_uuid(i) for i in range(self._cuda.Device.count())]
            index = choose_device(wanted, uuids)
            device = self._cuda.Device(index)
            _leave()
            self.name = f"{device.name()} {index} ({uuids[index]})"
            self.capability = "{}.{}".format(*device.compute_capability())
            self._context = device.make_context(self._cuda.ctx_flags.SCHED_BLOCKING_SYNC)
            self._maker = threading.get_ident()
            _thread.device = self
        try:
            self._prepare()
        except BaseException:
            self.close()
            raise

    def _prepare(self) -> None:
        with self._faults():
            self._stream = self._cuda.Stream()
            self.stream = int(self._stream.handle)
        try:
            module = self._cuda.module_from_buffer(ptx())
            self._kept.append(module)
            self._kernels |= {name: module.get_function(name) for name in KERNELS}
        except self._cuda.Error as error:
            reason = " ".join(str(error).split())
            raise KernelError(
                f"{self.name} refuses the kernels, which need a driver of CUDA 13 or newer: {reason}"
            ) from error

    def bind(self) -> None:
        if _bound() is self:
            return
        with self._faults("binding it to a thread"):
            _leave()
            self._context.push()
        _thread.device = self

    def unbind(self) -> None:
        if _bound() is self:
            _leave()

    def pop(self) -> None:
        """Take the context off the calling thread, where it must be the current one."""
        with self._faults("leaving a thread"):
            self._context.pop()

    def memory(self) -> tuple[int, int]:
        with self._faults("asking for free memory"):
            free, total = self._cuda.mem_get_info()
            return int(free), int(total)

    def allocate(self, size: int) -> int:
        with self._faults(f"allocating {size} bytes"):
            block = self._cuda.mem_alloc(size)
            self._kept.append(block)
        self.clear(int(block), size)
        return int(block)

    def clear(self, address: int, size: int) -> None:
        with self._faults("clearing"):
            self._cuda.memset_d8_async(address, 0, size, self._stream)

    def pinned(self, size: int) -> Host:
        with self._faults(f"pinning {size} bytes"):
            memory: Host = self._cuda.pagelocked_empty(size, np.uint8)
            memory[:] = 0
            return memory

    def upload(self, address: int, source: Host) -> None:
        with self._faults("uploading"):
            self._cuda.memcpy_htod_async(address, source, self._stream)

    def download(self, target: Host, address: int) -> None:
        with self._faults("downloading"):
            self._cuda.memcpy_dtoh_async(target, address, self._stream)

    def launch(self, kernel: str, grid: tuple[int, int, int], threads: int, arguments: Sequence[Any]) -> None:
        with self._faults(f"running {kernel}"):
            self._kernels[kernel](*arguments, grid=grid, block=(threads, 1, 1), stream=self._stream)

    def record(self) -> Event:
        with self._faults("recording an event"):
            event = self._cuda.Event(self._cuda.event_flags.DISABLE_TIMING)
            event.record(self._stream)
            return _Event(event, self._faults)

    def capture(self, work: Callable[[], None]) -> Callable[[], None]:
        return driver.capture(self.stream, work)

    def close(self) -> None:
        if not answers(self):
            with suppress(GpuFailed):
                self.unbind()
            keep_for_ever(self)
            return
        with suppress(GpuFailed, self._cuda.Error):
            self._kept.clear()
            self._kernels.clear()
            self._stream = None
            handle = self._context.handle
            _leave()
            self._context.detach()
            if threading.get_ident() != self._maker:
                # PyCUDA, which tells threads by this number too, only forgets a context that another made.
                driver.destroy_context(handle)

    @contextmanager
    def _faults(self, doing: str = "opening it") -> Iterator[None]:
        try:
            yield
        except self._cuda.Error as error:
            raise fault(error, self.name, doing) from error


class _Event:
    def __init__(self, event: Any, faults: Callable[[str], Any]) -> None:
        self._event, self._faults = event, faults

    def query(self) -> bool:
        with self._faults("running a step"):
            return bool(self._event.query())


def _pycuda() -> Any:
    try:
        return importlib.import_module("pycuda.driver")
    except ImportError as error:
        raise DeviceNotFound(
            f"PyCUDA or the NVIDIA driver is missing ({error}); install this package with its extra `gpu`"
        ) from error
