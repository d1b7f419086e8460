"""What a request sends while it is worked on: at once, outside the transaction, before its reply."""

import asyncio

import structlog

from daemon.kafka.brokers.producer import Send, may_pass, refuses
from daemon.kafka.publishing.answers import Answers
from daemon.kafka.record import Incoming, Outgoing

log = structlog.get_logger(__name__)


class Deltas:
    """The `emit` of one request. Losing a delta is no failure: the reply repeats the whole answer."""

    def __init__(self, record: Incoming, answers: Answers, send: Send) -> None:
        self._record = record
        self._answers = answers
        self._send = send
        self._sent: list[asyncio.Future[object]] = []

    async def __call__(self, output: Outgoing) -> None:
        """Returns when the record is on its way, not when it has arrived."""
        routed = await self._answers.route(self._record, output)
        if routed is None:
            return
        try:
            self._sent.append(await self._send(routed))
        except Exception as error:
            if not may_pass(error) and not refuses(error):
                raise
            log.warning("delta_lost", request=self._record.address, error=repr(error))

    async def flush(self) -> None:
        """Returns when all have arrived, so that the reply comes after them."""
        results = await asyncio.gather(*self._sent, return_exceptions=True)
        lost = [result for result in results if isinstance(result, BaseException)]
        if lost:
            log.warning("deltas_lost", request=self._record.address, count=len(lost), error=repr(lost[0]))
