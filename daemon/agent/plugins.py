"""Things that modules from outside may add, by name."""

from collections.abc import Iterator, Mapping
from typing import ClassVar, Generic, Protocol, TypeVar

from daemon.errors import ConfigurationError


class Named(Protocol):
    name: ClassVar[str]


T = TypeVar("T", bound=Named)


class Plugins(Mapping[str, T], Generic[T]):
    """`what` they are, for messages; `given` are there from the start and cannot be replaced."""

    def __init__(self, what: str, *given: T) -> None:
        self._what = what
        self._given = {plugin.name: plugin for plugin in given}
        self._added: dict[str, T] = {}

    def add(self, plugin: T) -> T:
        """Raises ConfigurationError when another one has the name; a reloaded module replaces its own."""
        earlier = self.get(plugin.name)
        if earlier is not None and (plugin.name in self._given or _origin(earlier) != _origin(plugin)):
            raise ConfigurationError(
                f"{self._what} {plugin.name!r} is declared twice: {_origin(earlier)} and {_origin(plugin)}; "
                "rename one."
            )
        self._added[plugin.name] = plugin
        return plugin

    def __getitem__(self, name: str) -> T:
        return self._added[name] if name in self._added else self._given[name]

    def __iter__(self) -> Iterator[str]:
        yield from self._given
        yield from self._added

    def __len__(self) -> int:
        return len(self._given) + len(self._added)


def _origin(plugin: object) -> str:
    kind = plugin if isinstance(plugin, type) else type(plugin)
    return f"{kind.__module__}.{kind.__qualname__}"
