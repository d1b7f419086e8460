"""What a request sends while it is worked on: at once, outside the transaction, before its reply."""

import asyncio
from functools import partial

import structlog
from aiokafka.errors import TopicAuthorizationFailedError

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
        self._forbidden: set[str] = set()  # topics that were told to be

    async def __call__(self, output: Outgoing) -> None:
        """Returns when the record is on its way, not when it has arrived."""
        routed = await self._answers.route(self._record, output)
        if routed is None:
            return
        try:
            sent = await self._send(routed)
            sent.add_done_callback(partial(self._arrived, routed))
            self._sent.append(sent)
        except Exception as error:
            if not may_pass(error) and not refuses(error):
                raise
            self._lost(routed, error)
            log.warning("delta_lost", request=self._record.address, error=repr(error))

    async def flush(self) -> None:
        """Returns when all have arrived, so that the reply comes after them."""
        results = await asyncio.gather(*self._sent, return_exceptions=True)
        lost = [result for result in results if isinstance(result, BaseException)]
        if lost:
            log.warning("deltas_lost", request=self._record.address, count=len(lost), error=repr(lost[0]))

    def _arrived(self, output: Outgoing, sent: "asyncio.Future[object]") -> None:
        if not sent.cancelled() and (error := sent.exception()) is not None:
            self._lost(output, error)

    def _lost(self, output: Outgoing, error: BaseException) -> None:
        """What follows is not sent where all is forbidden: each refusal costs the shared producer its place.
        A delta that was refused for itself, such as for its size, tells nothing of the reply.
        """
        if isinstance(error, TopicAuthorizationFailedError) and output.topic not in self._forbidden:
            self._forbidden.add(output.topic)
            self._answers.refuse([output])
