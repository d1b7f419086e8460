"""What a run left behind, as plain values: the only thing that the checker looks at.

Everything is read from outside the daemon: the request topic, the reply topic, and the file in which the
tools note what they did to the world.
"""

from dataclasses import dataclass, field
from typing import Literal

Place = tuple[int, int]
"""(partition, offset) of a record."""

Declared = Literal["read_only", "idempotent", "reconciled", "once"]
"""What a tool promises about repeated calls. `once`: nothing, so a repeated call is a repeated effect;
`reconciled`: that too, but it can be asked whether a call took place.
"""


@dataclass(frozen=True, slots=True)
class Asked:
    """A record on the request topic. `correlation` is unique unless the producer wrote it twice."""

    place: Place
    key: bytes | None
    correlation: str


@dataclass(frozen=True, slots=True)
class Report:
    """One executed call, as the reply tells it."""

    tool: str
    outcome: str


@dataclass(frozen=True, slots=True)
class Told:
    """A terminal record on the reply topic, read to the end under read_committed. `again`: it repeats the
    reply to an earlier record with the same request.
    """

    place: Place
    key: bytes | None
    correlation: str
    reply_id: str
    status: str
    attempt: int = 1
    reports: tuple[Report, ...] = ()
    again: bool = False


@dataclass(frozen=True, slots=True)
class Streamed:
    """A delta on the reply topic."""

    place: Place
    correlation: str
    attempt: int
    index: int


@dataclass(frozen=True, slots=True)
class Ran:
    """A line that a tool wrote: it began to act under this idempotency key, or it had acted; it began to undo
    that, or it had undone it. In the order in which it happened.
    """

    tool: str
    key: str
    correlation: str
    event: Literal["began", "acted", "undoing", "undone"]


@dataclass
class History:
    """`seen`: places of terminal records that a reader met under read_committed while all this happened.

    `expected`: status of the reply, by correlation; `called_off`: those that may be `cancelled` as well.
    `declared`: the tools; `undoable`: those of them that can be undone. `deaths`: daemons that ended though
    nobody asked them to, or with a wrong status. `letters`: correlations on the dead-letter topic;
    `poisoned`: those that belong there.
    """

    asked: list[Asked] = field(default_factory=list)
    told: list[Told] = field(default_factory=list)
    streamed: list[Streamed] = field(default_factory=list)
    ran: list[Ran] = field(default_factory=list)
    seen: set[Place] = field(default_factory=set)
    expected: dict[str, str] = field(default_factory=dict)
    called_off: set[str] = field(default_factory=set)
    letters: list[str] = field(default_factory=list)
    poisoned: list[str] = field(default_factory=list)
    declared: dict[str, Declared] = field(default_factory=dict)
    undoable: frozenset[str] = frozenset()
    deaths: list[str] = field(default_factory=list)
    exactly_once: bool = True
