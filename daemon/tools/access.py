"""Which requests may call which tools."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from pydantic import BaseModel, ConfigDict, Field

from daemon.tools.registry import Registry
from daemon.tools.tool import Tool


@dataclass(frozen=True)
class Caller:
    """`topic` is where the request was read, `tenant` and `user_id` what its producer says: only as good as
    the access control of the topic."""

    topic: str = ""
    tenant: str | None = None
    user_id: str | None = None


class Grant(BaseModel):
    """Requests that match all of `topics`, `tenants` and `users` hold `scopes`; left out: whatever it is.

    The patterns are those of file names (`*`, `?`, `[…]`). A request without a tenant or a user matches no
    pattern for it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    scopes: list[str] = Field(min_length=1)
    topics: list[str] | None = None
    tenants: list[str] | None = None
    users: list[str] | None = None

    def holds_for(self, caller: Caller) -> bool:
        return all(
            patterns is None or (value is not None and any(fnmatchcase(value, one) for one in patterns))
            for patterns, value in (
                (self.topics, caller.topic),
                (self.tenants, caller.tenant),
                (self.users, caller.user_id),
            )
        )


@dataclass(frozen=True)
class Access:
    """A tool takes its own scopes and those that `require` gives to the patterns its name matches. A tool
    that takes none is everybody's."""

    require: Mapping[str, Iterable[str]] = field(default_factory=dict)
    grants: tuple[Grant, ...] = ()

    def view(self, registry: Registry, caller: Caller) -> Registry:
        """The tools there are as far as `caller` is concerned."""
        held = {scope for grant in self.grants if grant.holds_for(caller) for scope in grant.scopes}
        return registry.only(lambda tool: self.needed(tool) <= held)

    def needed(self, tool: Tool) -> set[str]:
        """The scopes that `tool` takes."""
        more = (scopes for pattern, scopes in self.require.items() if fnmatchcase(tool.name, pattern))
        return set(tool.scopes).union(*more)
