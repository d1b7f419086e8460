"""Where an engine folder may be written: where nothing is lost by it."""

import json
from pathlib import Path
from typing import Any

from engines.errors import BuildError
from engines.manifest import CACHE_PREFIX, FILE_NAME

_OURS = {"format", "source_sha256", "files"}
"""Keys of the manifests of all versions, so that the engines of older ones can be built again."""


def check_place(out: Path, source: Path) -> None:
    """Raise BuildError unless `out` is free, or an engine folder with nothing else in it.

    source: the checkpoint's folder, which must not lie in it. Both without symbolic links.
    """
    if source.is_relative_to(out):
        raise BuildError(f"the checkpoint {source} lies in {out}, which the engine would replace; move one")
    try:
        if out.exists() and (problem := _problem(out)):
            raise BuildError(f"{out} exists and {problem}; give another place for the engine")
    except OSError as error:
        raise BuildError(
            f"{error.filename or out} cannot be read ({error.strerror}); give another place"
        ) from error


def _problem(out: Path) -> str | None:
    """Why the engine cannot or must not replace what is there."""
    if not out.is_dir():
        return "is no folder"
    if out.is_mount():
        return "is a mount point, which nothing can take the place of"
    if out.samefile(Path.cwd()):
        return "is the working directory, which would be taken away"
    return _strange(out)


def _strange(out: Path) -> str | None:
    """What is there beside the files of an engine."""
    names = sorted(path.name for path in out.iterdir())
    if not names:
        return None
    files = _listed(out / FILE_NAME)
    if files is None:
        return "is no engine folder"
    for name in names:
        ours = name in files or name == FILE_NAME or name.startswith(CACHE_PREFIX)
        if not ours or not (out / name).is_file():
            return f"holds {name}, which is not the engine's"
    return None


def _listed(manifest: Path) -> dict[str, Any] | None:
    """The files that a manifest of an engine lists; None: it is not of an engine."""
    if not manifest.is_file():
        return None
    try:
        values = json.loads(manifest.read_bytes())
    except ValueError:
        return None
    if not isinstance(values, dict) or not values.keys() >= _OURS or not isinstance(values["files"], dict):
        return None
    return values["files"]
