"""Judges what the tools did, as far as that is told by what they wrote down and what the replies report."""

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

from tests.faults.history import Declared, History, Told


@dataclass
class Calls:
    """The calls of one tool by one request. `began`, `acted`: how often, by idempotency key."""

    request: str
    tool: str
    declared: Declared | None
    began: Counter[str] = field(default_factory=Counter)
    acted: Counter[str] = field(default_factory=Counter)
    undoing: set[str] = field(default_factory=set)
    undone: set[str] = field(default_factory=set)
    again: set[str] = field(default_factory=set)  # keys under which it ran after it began to be undone
    outcomes: Counter[str] = field(default_factory=Counter)

    @property
    def known(self) -> int:
        """Calls of which the reply says that they took place, whether or not they were undone then."""
        return self.outcomes["ok"] + self.outcomes["compensated"] + self.outcomes["compensation_failed"]


def problems(history: History) -> Iterator[str]:
    """Every broken promise: a call keeps its idempotency key through all attempts, no two calls share one,
    it runs as often as its tool is declared to allow, the reply tells what is known of it, and when the
    request fails what can be undone is undone.
    """
    yield from _shared_keys(history)
    found = _calls(history)
    for reply in _terminal(history).values():
        for _, calls in sorted(found[reply.correlation].items()):
            told = f"{calls.request}: {calls.tool}"
            for problem in (*_told(calls, reply), *_repeated(calls), *_undone(calls, reply, history)):
                yield f"{told} {problem}"


def _shared_keys(history: History) -> Iterator[str]:
    owners: dict[str, set[str]] = defaultdict(set)
    for ran in history.ran:
        owners[ran.key].add(ran.correlation)
    for key, requests in owners.items():
        if len(requests) > 1:
            yield f"key {key} was given to {sorted(requests)}"


def _told(calls: Calls, reply: Told) -> Iterator[str]:
    # Nothing runs again for a request that was called off, not even to learn how it went the first time.
    called_off = reply.status == "cancelled"
    if called_off and calls.declared == "read_only":
        return  # changed nothing, so no attempt notes it for the next
    total = calls.outcomes.total()
    if len(calls.began) > total:
        yield f"has {len(calls.began)} keys for {total} calls"
    if calls.known > len(calls.acted):
        yield "is reported ok and has not acted"
    if total - calls.known < len(calls.began.keys() - calls.acted.keys()):
        yield "may have acted, nobody knows, and the reply hides it"
    if calls.declared == "reconciled" and calls.known < len(calls.acted):
        yield "has acted, would have said so, and the reply does not know it"
    unknowable = ("once", None, "idempotent") if called_off else ("once", None)
    if calls.outcomes["unknown"] and calls.declared not in unknowable:
        yield f"is {calls.declared}, and its outcome is told as unknown"
    if calls.outcomes["unknown"] and reply.attempt == 1:
        yield "is told as unknown by the only attempt"


def _repeated(calls: Calls) -> Iterator[str]:
    for key, count in calls.began.items():
        if calls.declared == "once" and count > 1:
            yield f"began {count} times with key {key}"
    for key, count in calls.acted.items():
        if calls.declared == "reconciled" and count > 1:
            yield f"acted {count} times with key {key}"


def _undone(calls: Calls, reply: Told, history: History) -> Iterator[str]:
    for key in sorted(calls.again):
        yield f"ran with key {key} after that was being undone"
    if reply.status == "ok" and calls.undoing:
        yield "was undone though the request succeeded"
    if reply.status != "ok" and calls.tool in history.undoable:
        for key in sorted(calls.acted.keys() - calls.undone):
            yield f"still stands with key {key} though the request failed"
        if calls.outcomes["compensated"] != len(calls.undone):
            yield f"is reported undone {calls.outcomes['compensated']} times, was {len(calls.undone)} times"


def _calls(history: History) -> dict[str, dict[str, Calls]]:
    """By request and tool, of everything that ran or is reported."""
    found: dict[str, dict[str, Calls]] = defaultdict(dict)

    def of(request: str, tool: str) -> Calls:
        return found[request].setdefault(tool, Calls(request, tool, history.declared.get(tool)))

    for ran in history.ran:
        calls = of(ran.correlation, ran.tool)
        if ran.event == "undoing":
            calls.undoing.add(ran.key)
        elif ran.event == "undone":
            calls.undone.add(ran.key)
        else:
            (calls.began if ran.event == "began" else calls.acted)[ran.key] += 1
            calls.again |= {ran.key} & calls.undoing
    for reply in _terminal(history).values():
        for report in reply.reports:
            of(reply.correlation, report.tool).outcomes[report.outcome] += 1
    return found


def _terminal(history: History) -> dict[str, Told]:
    """The replies by id: what at-least-once delivery repeats counts once, what was told again to a request
    that came twice not at all.
    """
    replies: dict[str, Told] = {}
    for reply in history.told:
        if not reply.again:
            replies.setdefault(reply.reply_id, reply)
    return replies
