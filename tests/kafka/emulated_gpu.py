"""Loaded by a daemon like a tool module: TensorRT engines then run on an emulated GPU.

EMULATED_KERNELS: the kernels, compiled for the CPU. EMULATED_HANG: while this file exists nothing runs.
"""

import ctypes
import os
import sys
from pathlib import Path

from engines.serve.runtime.trt.runtime import TrtRuntime
from tests.unit.gpu.emulated_device import EmulatedDevice
from tests.unit.gpu.emulated_runtime import emulated_tensorrt_on


class Device(EmulatedDevice):
    @property
    def stuck(self):
        return Path(os.environ["EMULATED_HANG"]).exists()

    @stuck.setter
    def stuck(self, value):
        pass


def open_emulated(folder, manifest, *, rows=None, device=None, share=None):
    gpu = Device(ctypes.CDLL(os.environ["EMULATED_KERNELS"]), total=8 << 30)
    return TrtRuntime.on(gpu, emulated_tensorrt_on(gpu), folder, manifest, rows=rows, share=share, limit=1.0)


TrtRuntime.open = open_emulated
# Asked whether the installed TensorRT fits the plan; here none is.
sys.modules["tensorrt"] = emulated_tensorrt_on(None)
