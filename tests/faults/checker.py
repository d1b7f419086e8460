"""Judges a history. Pure: the same history gives the same violations, in the same order."""

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from tests.faults.calls import problems
from tests.faults.history import Asked, History, Told

Kind = Literal[
    "lost", "duplicated", "invented", "status", "order", "aborted", "attempt", "tool", "dead letter", "death"
]


@dataclass(frozen=True, slots=True)
class Violation:
    kind: Kind
    what: str


def check(history: History) -> list[Violation]:
    """Every broken promise. Empty for a history as it should be."""
    rules = (_answers, _order, _aborted, _attempts, _tools, _letters, _deaths)
    return [violation for rule in rules for violation in rule(history)]


def _answers(history: History) -> Iterator[Violation]:
    """One terminal reply per request record; with at-least-once, more only if they carry the same id. And
    the right one: a daemon that answers `error` to everything would keep all other promises.
    """
    asked = Counter(asked.correlation for asked in history.asked)
    told: dict[str, list[Told]] = defaultdict(list)
    for reply in history.told:
        told[reply.correlation].append(reply)
    for correlation, count in asked.items():
        replies = told[correlation]
        answers = len(replies) if history.exactly_once else len({reply.reply_id for reply in replies})
        if answers < count:
            yield Violation("lost", f"{correlation}: {count} requests, {answers} replies")
        if answers > count:
            yield Violation("duplicated", f"{correlation}: {count} requests, {answers} replies")
        elif history.exactly_once and len({reply.reply_id for reply in replies}) < answers:
            yield Violation("duplicated", f"{correlation}: two replies have one reply id")
    for reply in history.told:
        due = history.expected.get(reply.correlation, reply.status)
        if due == "ok" and any(report.outcome == "unknown" for report in reply.reports):
            due = "error"
        if reply.status == "cancelled" and reply.correlation in history.called_off:
            continue
        if reply.status != due:
            yield Violation("status", f"{reply.correlation}: {reply.status} where {due} was due")
    for correlation in sorted(told.keys() - asked.keys()):
        yield Violation("invented", f"{correlation}: a reply to nothing")


def _order(history: History) -> Iterator[Violation]:
    """Replies of one key stand in the order of the requests. Only first replies count: repetitions of
    at-least-once delivery come late by nature. Who is not to be served any more is told so at once.
    """
    asked: dict[bytes, list[Asked]] = defaultdict(list)
    told: dict[bytes, list[Told]] = defaultdict(list)
    for request in sorted(history.asked, key=lambda request: request.place):
        if request.key is not None:
            asked[request.key].append(request)
    for reply in sorted(history.told, key=lambda reply: reply.place):
        if reply.key is not None and reply.status not in ("expired", "cancelled"):
            told[reply.key].append(reply)
    for key, requests in asked.items():
        partitions = {reply.place[0] for reply in told[key]}
        if len(partitions) > 1:
            yield Violation("order", f"{key!r}: replies on the partitions {sorted(partitions)}")
        replies = list(dict.fromkeys(reply.correlation for reply in told[key]))
        answered = set(replies)
        expected = [
            name for name in dict.fromkeys(asked.correlation for asked in requests) if name in answered
        ]
        known = set(expected)
        actual = [name for name in replies if name in known]
        for before, after in zip(expected, actual, strict=True):
            if before != after:
                yield Violation("order", f"{key!r}: {after} where {before} was due")
                break


def _aborted(history: History) -> Iterator[Violation]:
    """Nothing that a reader met under read_committed is gone when the topic is read again."""
    final = {reply.place for reply in history.told}
    for place in sorted(history.seen - final):
        yield Violation("aborted", f"{place}: was read under read_committed and is not there")


def _attempts(history: History) -> Iterator[Violation]:
    """Deltas of one attempt are numbered without repetition, and the reply names the attempt that it ends:
    later ones do not exist, and its own deltas come before it.
    """
    written_twice = {
        name for name, count in Counter(a.correlation for a in history.asked).items() if count > 1
    }
    ended: dict[str, Told] = {}
    for reply in sorted(history.told, key=lambda reply: reply.place):
        ended.setdefault(reply.correlation, reply)
    last: dict[tuple[str, int], int] = {}
    for delta in sorted(history.streamed, key=lambda delta: delta.place):
        if delta.correlation in written_twice:
            continue
        name = f"{delta.correlation} attempt {delta.attempt}"
        before = last.get((delta.correlation, delta.attempt), -1)
        if delta.index <= before:
            yield Violation("attempt", f"{name}: delta {delta.index} after {before}")
        last[delta.correlation, delta.attempt] = max(before, delta.index)
        reply = ended.get(delta.correlation)
        if reply is None or not history.exactly_once:
            continue
        if delta.attempt > reply.attempt:
            yield Violation("attempt", f"{name}: the reply ended attempt {reply.attempt}")
        if delta.attempt == reply.attempt and delta.place > reply.place:
            yield Violation("attempt", f"{name}: delta {delta.index} after the reply")


def _tools(history: History) -> Iterator[Violation]:
    for problem in problems(history):
        yield Violation("tool", problem)


def _letters(history: History) -> Iterator[Violation]:
    """One dead letter per record that could not be read, and no other."""
    found, due = Counter(history.letters), Counter(history.poisoned)
    for correlation in sorted(found.keys() | due.keys()):
        right = found[correlation] == due[correlation]
        if not right and (history.exactly_once or found[correlation] < due[correlation]):
            yield Violation(
                "dead letter", f"{correlation}: {found[correlation]} letters, {due[correlation]} due"
            )


def _deaths(history: History) -> Iterator[Violation]:
    for death in history.deaths:
        yield Violation("death", death)
