"""What an operator or a caller tells the daemons on the control topic."""

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, model_validator

from schemas.strict import Strict

_INSTANCE = "The daemon that is meant, as in its metrics; left out: all."


class Cancel(Strict):
    """Call a request off. A record's key, if it has one, says of which conversation."""

    type: Literal["cancel"] = "cancel"
    id: str | None = Field(default=None, min_length=1, description="The request's id, as in its reply.")
    correlation_id: str | None = Field(
        default=None, min_length=1, description="The request's `correlation-id` header."
    )

    @model_validator(mode="after")
    def _names_something(self) -> "Cancel":
        if self.id is None and self.correlation_id is None:
            raise ValueError("give `id` or `correlation_id`; with both, both must fit")
        return self


class Reload(Strict):
    """Read engines, routes, declared tools and plug-ins anew, as SIGHUP does; not `tools.modules`."""

    type: Literal["reload"]
    instance: str | None = Field(default=None, description=_INSTANCE)


class LoadEngine(Strict):
    """Load an engine folder; once it is warm it takes the place of what answered to `name`, if anything did.
    Lasts until the next reload. The rest is as in the settings."""

    type: Literal["load_engine"]
    instance: str | None = Field(default=None, description=_INSTANCE)
    name: str = Field(min_length=1, description="As requests and routes name it.")
    path: str = Field(min_length=1, description="The engine folder, on the daemon's host.")
    slots: int | None = Field(default=None, ge=1)
    capacity: int | None = Field(default=None, ge=16)
    memory: float | None = Field(default=None, gt=0, le=1)
    replicas: int | None = Field(default=None, ge=1)
    device: str | None = None
    threads: int | None = Field(default=None, ge=1)


class RetireEngine(Strict):
    """Give an engine no more requests; it finishes those it has. Refused when nobody else would answer the
    requests of a route. Lasts until the next reload."""

    type: Literal["retire_engine"]
    instance: str | None = Field(default=None, description=_INSTANCE)
    name: str = Field(min_length=1)


EngineOrder = Reload | LoadEngine | RetireEngine


def _type(record: Any) -> str | None:
    return record.get("type", "cancel") if isinstance(record, dict) else None


Control = Annotated[
    Annotated[Cancel, Tag("cancel")]
    | Annotated[Reload, Tag("reload")]
    | Annotated[LoadEngine, Tag("load_engine")]
    | Annotated[RetireEngine, Tag("retire_engine")],
    Discriminator(_type),
]
