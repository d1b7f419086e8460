"""What a tool may know about the request it works for."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class ToolContext:
    """Handed to a tool function that has a parameter of this type; the model never sees that parameter.

    `topic` and `record` (`topic/partition/offset`) say where the request came from, `user_id` and `tenant`
    are what its producer says. `idempotency_key` is the same whenever the same call of the same request is
    executed again; `deadline` is in seconds of `time.monotonic`, None when there is none.
    """

    request_id: str = ""
    user_id: str | None = None
    tenant: str | None = None
    topic: str = ""
    record: str = ""
    idempotency_key: str = ""
    deadline: float | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
