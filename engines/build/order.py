"""What a build is asked for."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path

from engines.build.checkpoint import Checkpoint, reading
from engines.build.graph.dialects import DIALECTS
from engines.build.place import check_place
from engines.build.plan import PlanOptions, check_options, load_flavour, targets
from engines.build.recipe import Recipe
from engines.build.windows import Windows
from engines.errors import BuildError
from engines.manifest import Dialect, FileEntry

REVISION = 4
"""Raised when the same checkpoint and options give other files than before."""
FP8_CAPABILITY = (8, 9)


@dataclass(frozen=True)
class Order:
    """Everything that decides what is in the engine folder."""

    recipe: Recipe
    dialects: tuple[Dialect, ...]
    plan: PlanOptions | None
    name: str
    calibration: Windows = field(default_factory=list)
    held_out: Windows = field(default_factory=list)

    def versions(self) -> dict[str, str]:
        """What writes the files."""
        found = {package: version(package) for package in ("onnx", "numpy")} | {"factory": str(REVISION)}
        if self.plan:
            trt = load_flavour(self.plan.flavour)
            found[trt.__name__] = trt.__version__
        return found

    def check(self, source: Checkpoint, out: Path) -> None:
        """Raise BuildError for what cannot be built, or not in `out`."""
        if self.recipe.precision == "fp8":
            self._check_fp8()
        if self.plan:
            self._check_plan(self.plan, source.config.context)
        if unknown := [kind for kind in self.dialects if kind not in DIALECTS]:
            raise BuildError(f"dialect {unknown[0]!r} is none of {', '.join(DIALECTS)}")
        if not self.dialects and not self.plan:
            raise BuildError("neither a dialect nor a plan is asked for")
        check_place(out, source.folder.resolve())

    def _check_fp8(self) -> None:
        if self.dialects:
            raise BuildError(
                "fp8 is for TensorRT plans alone; for ONNX Runtime take int8, as small and closer to fp32"
            )
        if not self.calibration:
            raise BuildError(
                "fp8 rounds what goes into each weight, too: give calibration text to scale it by"
            )

    def _check_plan(self, plan: PlanOptions, context: int) -> None:
        check_options(plan, context)
        old = [c for c in targets(plan) if tuple(map(int, c.split("."))) < FP8_CAPABILITY]
        if old and self.recipe.precision == "fp8":
            raise BuildError(f"GPUs of compute capability {old[0]} have no fp8; take int8, or 8.9 and newer")

    def fingerprint(self, source: Checkpoint, progress: Callable[[int, int], None]) -> str:
        """Of the order, the tools and every byte of the checkpoint.

        Raises CheckpointError for a file that cannot be read.
        """
        plan = self.plan and replace(self.plan, timing_cache=None, capabilities=targets(self.plan))
        settings = self.recipe, self.dialects, plan, self.name, self.versions()
        digest = hashlib.sha256(repr(settings).encode())
        for kind in (self.calibration, self.held_out):
            digest.update(f"{len(kind)} windows".encode())
            for window in kind:
                digest.update(window.ids.tobytes() + window.counted.tobytes())
        files = source.files()
        for index, path in enumerate(files):
            with reading(path):
                digest.update(f"{path.name}:{FileEntry.of(path).sha256}".encode())
            progress(index + 1, len(files))
        return digest.hexdigest()
