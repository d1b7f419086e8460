"""A GPU made of host memory: addresses are real, kernels are the CUDA C source run on the CPU."""

import ctypes
import threading

import numpy as np

_NAMES = {"sample": "run_sample", "copy_slot": "run_copy_slot", "feed": "run_feed"}
_THREADS = 64  # an emulated block's; a barrier costs a switch per thread


class EmulatedDevice:
    """See engines.serve.runtime.trt.device.Device. What is enqueued runs as late as it may, when somebody
    asks whether it has: what changes or is read too early is wrong. `stuck`: nothing runs any more.
    """

    name, capability, stream = "an emulated GPU", "8.9", 7

    def __init__(self, library, total=1 << 30):
        self._library, self.total, self.taken = library, total, 0
        self._kept, self.launches, self.captures, self.replays = [], [], 0, 0
        self.capturing, self.recorded, self.stuck, self.closed = False, None, False, False
        self.queue, self.done = [], 0  # what waits; how much has run
        self.thread = threading.get_ident()

    def bind(self):
        assert self.thread in (None, threading.get_ident()), "two threads use one device"
        self.thread = threading.get_ident()

    def unbind(self):
        self.thread = None

    def memory(self):
        return self.total - self.taken, self.total

    def allocate(self, size):
        assert not self.capturing
        self.taken += size
        block = np.zeros(size + 256, np.uint8)
        self._kept.append(block)
        return -(-block.ctypes.data // 256) * 256

    def clear(self, address, size):
        assert not self.capturing
        self.enqueue(lambda: ctypes.memset(address, 0, size))

    def pinned(self, size):
        assert not self.capturing
        return np.zeros(size, np.uint8)

    def upload(self, address, source):
        assert not self.capturing
        self.enqueue(lambda: ctypes.memmove(address, source.ctypes.data, source.nbytes))

    def download(self, target, address):
        assert not self.capturing
        self.enqueue(lambda: ctypes.memmove(target.ctypes.data, address, target.nbytes))

    def launch(self, kernel, grid, threads, arguments):
        assert threads <= 1024 and threads % 32 == 0 and min(grid) > 0
        self.enqueue(lambda: self._launch(kernel, grid, arguments))

    def record(self):
        return _Event(self, self.done + len(self.queue))

    def run(self, count):
        """Until `count` things have run since the beginning."""
        while self.done < count:
            self.queue.pop(0)()
            self.done += 1

    def capture(self, work):
        self.capturing, self.recorded = True, []
        work()
        self.capturing, recorded = False, self.recorded
        self.captures += 1

        def replay():
            self.replays += 1
            self.queue += recorded

        return replay

    def close(self):
        self.closed = not self.stuck
        self.unbind()

    def enqueue(self, call):
        """Run later, or record when a step is being captured."""
        (self.recorded if self.capturing else self.queue).append(call)

    def _launch(self, kernel, grid, arguments):
        self.launches.append(kernel)
        size = grid if kernel == "copy_slot" else (grid[0],)
        plain = [(ctypes.c_int if a.dtype == np.int32 else ctypes.c_uint64)(int(a)) for a in arguments]
        getattr(self._library, _NAMES[kernel])(*map(ctypes.c_uint, (*size, _THREADS)), *plain)


class _Event:
    def __init__(self, device, count):
        self._device, self._count = device, count

    def query(self):
        if self._device.stuck:
            return False
        self._device.run(self._count)
        return True
