"""The kernels' CUDA C source, compiled as C++ with emulator.h and callable from Python."""

import ctypes
import subprocess
from pathlib import Path

import numpy as np

from engines.serve.kernels.sources import source
from engines.serve.kernels.table import DRAW

_HERE = Path(__file__).parent
_LAUNCHERS = """
extern "C" void run_sample(unsigned rows, unsigned threads, const float *logits, int width,
                           const unsigned *allowed, const unsigned *seen, const Choice *choices,
                           Draw *draws, int *latest)
{
    launch({rows, 1, 1}, threads,
           [=] { sample(logits, width, allowed, seen, choices, draws, latest); });
}
extern "C" void run_copy_slot(unsigned x, unsigned y, unsigned z, unsigned threads, char *const *caches,
                              i64 source, i64 target, i64 pitch, int count)
{
    launch({x, y, z}, threads, [=] { copy_slot(caches, source, target, pitch, count); });
}
extern "C" void run_feed(unsigned blocks, unsigned threads, i64 *ids, const i64 *given, const int *latest,
                         int rows)
{
    launch({blocks, 1, 1}, threads, [=] { feed(ids, given, latest, rows); });
}
extern "C" unsigned sizes(int which) { return which ? sizeof(Draw) : sizeof(Choice); }
"""


def compile_emulated(folder: Path) -> ctypes.CDLL:
    """The kernels for this CPU; the compiler keeps to one rounding per operation, as NVRTC is told to."""
    text, library = folder / "kernels.cpp", folder / "kernels.so"
    text.write_text(f'#include "{_HERE}/emulator.h"\n{source()}\n{_LAUNCHERS}')
    options = [
        "-std=c++17",
        "-O1",
        "-ffp-contract=off",
        "-shared",
        "-fPIC",
        "-Wall",
        "-Wno-unknown-pragmas",
        "-Werror",
    ]
    subprocess.run(["g++", *options, "-o", library, text], check=True)
    return ctypes.CDLL(str(library))


def pointer(array):
    return None if array is None else ctypes.c_void_p(array.ctypes.data)


def emulated_draw(library, logits, table, allowed=None, seen=None, *, threads=64, latest=None):
    """As engines.serve.sampler.draw."""
    draws = np.zeros(len(table), DRAW)
    latest = np.zeros(1 + int(table["slot"].max()), np.int32) if latest is None else latest
    library.run_sample(
        len(table),
        threads,
        *(pointer(logits), logits.shape[1]),
        *map(pointer, (allowed, seen, table, draws, latest)),
    )
    return draws
