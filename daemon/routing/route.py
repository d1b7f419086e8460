"""The table that says which engine answers which request."""

from collections.abc import Callable, Collection
from fnmatch import fnmatchcase

from pydantic import BaseModel, ConfigDict, Field


class Route(BaseModel):
    """Requests that match all of `tasks`, `models`, `topics` and `tenants` go to `engine`; what is left out
    matches whatever it is.

    The patterns are those of file names (`*`, `?`, `[…]`). A request that names a model is only taken by
    routes with `models`; one without a tenant matches no pattern for it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    engine: str
    fallback: str | None = Field(default=None, description="Answers while `engine` has failed or is gone.")
    tasks: list[str] | None = None
    models: list[str] | None = None
    topics: list[str] | None = None
    tenants: list[str] | None = None

    @property
    def engines(self) -> tuple[str, ...]:
        """In the order of preference."""
        return (self.engine,) if self.fallback is None else (self.engine, self.fallback)

    @property
    def takes_everything(self) -> bool:
        """Every request that names no model."""
        return self.tasks is self.models is self.topics is self.tenants is None

    def takes(self, task: str, model: str | None, topic: str, tenant: str | None) -> bool:
        if model is not None and self.models is None:
            return False
        return (
            _fits(self.tasks, task)
            and _fits(self.models, model)
            and _fits(self.topics, topic)
            and _fits(self.tenants, tenant)
        )


def _fits(patterns: list[str] | None, value: str | None) -> bool:
    return patterns is None or (value is not None and any(fnmatchcase(value, one) for one in patterns))


def problems(routes: Collection[Route], engines: Collection[str]) -> list[str]:
    """What keeps `routes` from being a table over `engines`, as sentences that name the remedy."""
    known = ", ".join(engines)
    found = [
        f"routes.{number}: there is no engine {name!r}; use one of: {known}."
        for number, route in enumerate(routes)
        for name in route.engines
        if name not in engines
    ]
    if len(engines) > 1 and not any(route.takes_everything for route in routes):
        found.append(
            f"several engines and no route that takes every request: end with a `[[routes]]` that has only "
            f"`engine`, one of: {known}."
        )
    return found


def stranded(routes: Collection[Route], name: str, alive: Callable[[str], bool]) -> bool:
    """Whether requests for engine `name`, which does not answer, have nowhere to go: no route has a fallback
    for it, or one that names it has none."""
    concerned = [route for route in routes if name in route.engines]
    return not concerned or not all(any(map(alive, route.engines)) for route in concerned)
