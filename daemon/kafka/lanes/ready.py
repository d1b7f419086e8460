"""Answers that wait to be committed: not at all, or a little, for others to go with them.

A commit costs round trips and the brokers' work, however many replies it carries. So a finished reply waits
for others for a share of the time that its request has taken already: under load, when requests take long
because they wait for one another, commits carry many; a request that was quick is replied to quickly. The
same holds for the notes that a tool waits for before it acts.
"""

import asyncio
import time
from collections import deque

from daemon.kafka.lanes.alarm import Alarm
from daemon.kafka.lanes.room import Answered
from daemon.kafka.settings import KafkaSettings


class Ready:
    """Those of one lane, in the order they were finished."""

    def __init__(self, settings: KafkaSettings, singly: int = 0) -> None:
        """`singly`: so many are committed one by one before others may go together."""
        self._settings, self._singly = settings, singly
        self._answers: deque[Answered] = deque()
        self._due = asyncio.Event()
        self._alarm = Alarm(self._due.set)

    def __len__(self) -> int:
        return len(self._answers)

    @property
    def full(self) -> bool:
        """Whether one commit can carry no more."""
        return len(self._answers) >= self._settings.commit_max_records

    def add(self, answered: Answered, age_seconds: float) -> None:
        """`age_seconds`: since the request came."""
        self._answers.append(answered)
        self.wait(age_seconds)

    def wait(self, age_seconds: float) -> None:
        """Commit when something of a request of that age has waited for others long enough."""
        settings = self._settings
        patience = min(settings.commit_patience * age_seconds, settings.commit_max_interval_seconds)
        seconds = max(patience, settings.commit_interval_seconds)
        if seconds:
            self._alarm.by(time.time() + seconds)
        else:
            self.hurry()

    def hurry(self) -> None:
        """What waits, or something else that the next commit carries, should wait no longer."""
        self._due.set()

    async def due(self) -> None:
        """Returns when it is time for a commit."""
        await self._due.wait()

    def take(self) -> list[Answered]:
        """What goes into the commit that begins now; who comes later waits for the next one."""
        self.stop()
        count = min(len(self._answers), 1 if self._singly > 0 else self._settings.commit_max_records)
        self._singly -= count
        batch = [self._answers.popleft() for _ in range(count)]
        if self._answers:
            self.hurry()
        return batch

    def stop(self) -> None:
        self._alarm.stop()
        self._due.clear()
