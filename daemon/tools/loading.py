"""Tool modules from settings: import paths (`acme.tools`) or files (`/etc/autoglm/tools/acme.py`)."""

import importlib
import importlib.util
import re
import sys
from collections.abc import Iterable, Mapping
from hashlib import sha256
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import Any

from daemon.tools import grammar
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
                    execute(Path(source))
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
            grammar.check(tool)
            registry.add(tool)
    return registry


def execute(path: Path) -> None:
    """Runs a module's file, or a package's `__init__.py`, afresh. A failure leaves what was there before."""
    # Unique and stable, so that two files of one name do not meet in sys.modules.
    digest = sha256(str(path.resolve()).encode()).hexdigest()[:12]
    name = re.sub(r"\W", "_", f"autoglm_tools_{path.parent.name}_{path.stem}_{digest}")
    below = [str(path.parent)] if path.name == "__init__.py" else None
    spec = importlib.util.spec_from_file_location(
        name, path, loader=_Fresh(name, str(path)), submodule_search_locations=below
    )
    if spec is None or spec.loader is None or not path.is_file():
        raise FileNotFoundError(f"no such file: {path}")
    earlier = forget(name)
    # Dataclasses and pydantic look their module up while they are defined.
    sys.modules[name] = module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except BaseException:
        forget(name)
        sys.modules.update(earlier)
        raise


def forget(name: str) -> dict[str, ModuleType]:
    """Takes a module and what is below it out of `sys.modules`, so that it is imported anew."""
    found = [known for known in sys.modules if known == name or known.startswith(f"{name}.")]
    return {known: sys.modules.pop(known) for known in found}


class _Fresh(SourceFileLoader):
    """Reads the source whatever bytecode there is: that is compared by seconds, and edits come faster."""

    def path_stats(self, path: str) -> Mapping[str, Any]:
        raise OSError("no bytecode is wanted")
