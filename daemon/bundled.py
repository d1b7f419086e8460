"""The bundled model as an engine: built from the checkpoint in engines/demo once per version of it."""

from pathlib import Path

import engines.demo
from daemon.settings import cache_folder
from engines.manifest import Precision

CHECKPOINT = Path(engines.demo.__path__[0]) / "model"
PRECISION: Precision = "fp32"


def bundled_engine() -> Path:
    """The engine folder of the bundled model, built in a second or two when the cache has none."""
    from engines.build import build

    folder = cache_folder() / "engines" / f"bundled-{PRECISION}"
    build(CHECKPOINT, folder, precision=PRECISION, name="autoglm-demo")
    return folder
