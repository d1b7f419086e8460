"""Tool modules from settings: import paths (`acme.tools`) or files (`/etc/autoglm/tools/acme.py`)."""

import importlib
import importlib.util
import sys
from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path

from daemon.tools.errors import ToolModuleError
from daemon.tools.registry import Registry, declared_in
from schemas.errors import AutoGLMError


def load_tools(sources: Iterable[str], registry: Registry | None = None) -> Registry:
    """Imports every source and returns the registry with the tools that they declare.

    A file is executed afresh each time; a module that was imported before gives the tools it declared then.
    Raises ToolModuleError, ToolDeclarationError.
    """
    registry = registry if registry is not None else Registry()
    for source in sources:
        declared = Registry()
        with declared.collecting():
            try:
                if source.endswith(".py"):
                    _execute(Path(source))
                else:
                    importlib.import_module(source)
            except AutoGLMError:
                raise
            except (Exception, SystemExit) as error:  # whatever a module does while it is imported
                raise ToolModuleError(
                    f"tool module {source} cannot be loaded: {type(error).__name__}: {error}; "
                    "mend it or take it out of `tools.modules`."
                ) from error
        new = {id(tool) for tool in declared}
        for tool in [*declared, *(tool for tool in declared_in(source) if id(tool) not in new)]:
            registry.add(tool)
    return registry


def _execute(path: Path) -> None:
    # Unique and stable, so that two files of one name do not meet in sys.modules.
    name = f"autoglm_tools_{path.stem}_{sha256(str(path.resolve()).encode()).hexdigest()[:12]}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None or not path.is_file():
        raise FileNotFoundError(f"no such file: {path}")
    module = importlib.util.module_from_spec(spec)
    # Dataclasses and pydantic look their module up while they are defined.
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
