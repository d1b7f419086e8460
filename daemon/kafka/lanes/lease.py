"""How long this process may be sure that its partitions are its own."""

import asyncio
import math
import time

from daemon.kafka.reader import Reader

# Also goes on while the machine is suspended, which the monotonic clock does not.
_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


class Lease:
    """The brokers give partitions away only after a session timeout without heartbeat. Each heartbeat that
    they acknowledge therefore gives a lease of that length, counted from when it was sent.

    A process that was frozen or cut off for longer holds none until it has been told where it stands. What it
    reads meanwhile the rightful owner takes for records that nobody else has seen.
    """

    def __init__(self, consumer: Reader, session_timeout_seconds: float) -> None:
        self._consumer = consumer
        self._seconds = session_timeout_seconds
        self._until = -math.inf
        self._listening = False
        self._renewing = asyncio.Lock()

    @property
    def held(self) -> bool:
        return _now() < self._until

    @property
    def lapsed(self) -> bool:
        """Whether one was given and ran out, which takes brokers, or a process, that say nothing so long."""
        return -math.inf < self._until <= _now()

    def lose(self) -> None:
        """Count on nothing before the next heartbeat is acknowledged."""
        self._until = -math.inf

    async def renew(self) -> bool:
        """Whether it is held now; sends a heartbeat at once if it was not. Call it once the group is joined.

        Raises aiokafka's KafkaError.
        """
        self._listen()
        async with self._renewing:
            if not self.held:
                await self._consumer._coordinator._do_heartbeat()
            return self.held

    def _listen(self) -> None:
        """From now on learn of the client's own heartbeats: it tells nobody when the last one was."""
        if self._listening:
            return
        self._listening = True
        coordinator = self._consumer._coordinator
        beat = coordinator._do_heartbeat

        async def noted() -> bool:
            sent = _now()
            acknowledged: bool = await beat()
            if acknowledged:
                self._until = sent + self._seconds
            return acknowledged

        coordinator._do_heartbeat = noted


def _now() -> float:
    return time.clock_gettime(_CLOCK)
