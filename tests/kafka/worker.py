"""A consumer in a process of its own, to be killed or frozen.

`python -m tests.kafka.worker SETTINGS SECONDS`

Prints `start VALUE ATTEMPT` when the handler gets a request. SIGTERM drains and stops.
"""

import asyncio
import json
import os
import sys

from daemon.kafka.envelope import Envelope
from daemon.kafka.record import Emit, Incoming, Outgoing
from daemon.kafka.replies import reply_record
from daemon.kafka.settings import KafkaSettings
from tests.kafka.child import serve


async def main(chosen: KafkaSettings, seconds: float) -> None:
    async def handler(record: Incoming, emit: Emit) -> list[Outgoing]:
        value = record.value or b""
        print("start", value.decode(), record.attempt, flush=True)
        if value == b"die":
            os._exit(1)
        # Different lengths, so that requests finish out of order.
        await asyncio.sleep(seconds * (1 + record.offset % 5) / 3)
        return [reply_record(record, Envelope.of(record), chosen.reply_topic, value)]

    await serve(chosen, handler)


if __name__ == "__main__":
    asyncio.run(main(KafkaSettings.model_validate(json.loads(sys.argv[1])), float(sys.argv[2])))
