"""The two ends of the daemon: what is asked, and everything that is told."""

import asyncio
import json
import random
import time
from collections import Counter
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from tests.faults.history import Asked, Place, Report, Streamed, Told

Value = dict[str, Any]
UNKNOWN = ["no_such_tool"]
TOOLS = ("look", "book", "pack", "act_and_fail")


def chat(rng: random.Random, longest: int = 48) -> Value:
    """Up to `longest` tokens of babble. Without the format it would hardly ever begin as an answer does, and
    nothing of it would be streamed.
    """
    babble = {"temperature": 1.0, "seed": rng.randrange(2**32)}
    return {
        "query": "go",
        "tools": [],
        "max_tokens": rng.randint(2, longest),
        "stream": rng.random() < 0.5,
        "sampling": babble,
        "response_format": {"type": "regex", "regex": "[a-z ]{2,}"},
    }


def call(tool: str, stream: bool = False) -> Value:
    """A request that calls this tool once: the grammar forces the call."""
    choice = {"type": "function", "function": {"name": tool}}
    return {"query": "go", "tools": [tool], "tool_choice": choice, "max_tokens": 48, "stream": stream}


def any_request(rng: random.Random) -> Value:
    """Mostly tool calls; some chats; some that are refused."""
    dice = rng.random()
    if dice < 0.55:
        return call(rng.choice(TOOLS), stream=rng.random() < 0.3)
    return chat(rng) if dice < 0.9 else {"query": "go", "tools": UNKNOWN}


def conversations(count: int) -> list[str | None]:
    """Their keys, and that of the requests that belong to none."""
    return [*(f"conversation {number}" for number in range(count)), None]


class Traffic:
    """Writes requests and follows the replies, both straight to the broker."""

    def __init__(self, address: str, name: str, partitions: int) -> None:
        self.address, self.name, self.partitions = address, name, partitions
        self.requests, self.replies = f"{name}.requests", f"{name}.replies"
        self.sent: list[str] = []
        self.expected: dict[str, str] = {}
        self.called_off: set[str] = set()
        self.answered: Counter[str] = Counter()
        self.answered_at: dict[str, float] = {}
        self.seen: set[Place] = set()
        self.deltas = 0
        self._changed = asyncio.Event()
        self._producer = AIOKafkaProducer(bootstrap_servers=address, enable_idempotence=True, linger_ms=1)
        self._reader: asyncio.Task[None] | None = None

    async def start(self) -> None:
        admin = AIOKafkaAdminClient(bootstrap_servers=self.address)
        await admin.start()
        try:
            await admin.create_topics(
                [NewTopic(topic, self.partitions, 1) for topic in (self.requests, self.replies)]
            )
        finally:
            await admin.close()
        await self._producer.start()
        self._reader = asyncio.create_task(self._follow())

    async def stop(self) -> None:
        await self._producer.stop()
        if self._reader is not None:
            self._reader.cancel()
            await asyncio.gather(self._reader, return_exceptions=True)

    async def send(
        self, values: list[Value | bytes | None], keys: list[str | None], within: float | None = None
    ) -> list[str]:
        """Write the requests, the i-th under the i-th key (round and round); their correlation ids.

        `within`: seconds until their deadline, which they are going to miss.
        """
        deadline = None if within is None else time.time() + within
        names, futures = [], []
        for index, value in enumerate(values):
            name = f"{self.name}-{len(self.sent)}"
            key = keys[index % len(keys)]
            body = json.dumps({"id": name, **value}).encode() if isinstance(value, dict) else value
            good = isinstance(value, dict) and value["tools"] != UNKNOWN
            self.expected[name] = ("ok" if within is None else "expired") if good else "rejected"
            futures.append(await self._write(name, key, body, deadline))
            self.sent.append(name)
            names.append(name)
        await asyncio.gather(*futures)
        return names

    async def send_again(self, name: str, key: str | None, value: Value) -> None:
        """The same record once more, as a producer without idempotence would do."""
        await (await self._write(name, key, json.dumps({"id": name, **value}).encode()))
        self.sent.append(name)

    async def call_off(self, names: list[str], surely: bool = False) -> None:
        """Cancel these requests. `surely`: none of them can be answered before."""
        cancels = [json.dumps({"type": "cancel", "id": name}).encode() for name in names]
        sent = [await self._producer.send(f"{self.name}.control", cancel) for cancel in cancels]
        await asyncio.gather(*sent)
        if surely:
            self.expected |= dict.fromkeys(names, "cancelled")
        else:
            self.called_off |= set(names)

    async def _write(
        self, name: str, key: str | None, body: bytes | None, deadline: float | None = None
    ) -> "asyncio.Future[Any]":
        headers = [("correlation-id", name.encode()), ("reply-topic", self.replies.encode())]
        if deadline is not None:
            headers.append(("deadline", str(deadline).encode()))
        future: asyncio.Future[Any] = await self._producer.send(
            self.requests, body, key=None if key is None else key.encode(), headers=headers
        )
        return future

    @property
    def unanswered(self) -> int:
        return (Counter(self.sent) - self.answered).total()

    async def all_answered(self, seconds: float) -> bool:
        """Whether every request so far had as many replies as it was written, in time."""
        return await self.until(lambda: self.unanswered == 0, seconds)

    async def until(self, true: Any, seconds: float) -> bool:
        """Looks whenever the reader met something new."""
        end = time.monotonic() + seconds
        while not true():
            self._changed.clear()
            try:
                async with asyncio.timeout(max(0.0, end - time.monotonic())):
                    await self._changed.wait()
            except TimeoutError:
                return bool(true())
        return True

    async def _follow(self) -> None:
        consumer = _reader(self.address)
        await consumer.start()
        partitions = [TopicPartition(self.replies, number) for number in range(self.partitions)]
        consumer.assign(partitions)
        await consumer.seek_to_beginning(*partitions)
        try:
            while True:
                for batch in (await consumer.getmany(timeout_ms=200)).values():
                    for record in batch:
                        self._meet(record)
                self._changed.set()
        finally:
            await consumer.stop()

    def _meet(self, record: ConsumerRecord) -> None:
        if json.loads(record.value)["type"] == "delta":
            self.deltas += 1
            return
        name = dict(record.headers)["correlation-id"].decode()
        self.answered[name] += 1
        self.answered_at.setdefault(name, time.monotonic())
        self.seen.add((record.partition, record.offset))


def _reader(address: str, isolation: str = "read_committed") -> AIOKafkaConsumer:
    return AIOKafkaConsumer(
        bootstrap_servers=address,
        isolation_level=isolation,
        auto_offset_reset="earliest",
        fetch_max_wait_ms=20,
    )


async def read_all(address: str, topic: str, isolation: str = "read_committed") -> list[ConsumerRecord]:
    """The whole topic up to its present end, with a consumer of its own."""
    consumer = _reader(address, isolation)
    await consumer.start()
    try:
        numbers = await consumer._client.fetch_all_metadata()
        partitions = [TopicPartition(topic, number) for number in numbers.partitions_for_topic(topic) or ()]
        consumer.assign(partitions)
        await consumer.seek_to_beginning(*partitions)
        ends = await consumer.end_offsets(partitions)
        found: list[ConsumerRecord] = []
        for partition in partitions:
            while await consumer.position(partition) < ends[partition]:
                batches = await consumer.getmany(partition, timeout_ms=500)
                found += [record for batch in batches.values() for record in batch]
        return found
    finally:
        await consumer.stop()


def asked_of(record: ConsumerRecord) -> Asked:
    correlation = dict(record.headers)["correlation-id"].decode()
    return Asked((record.partition, record.offset), record.key, correlation)


def told_of(record: ConsumerRecord) -> Told | Streamed:
    """Takes the wire as it is: a reply without the headers it must have is an error here."""
    value, headers = json.loads(record.value), dict(record.headers)
    place, correlation = (record.partition, record.offset), headers["correlation-id"].decode()
    if value["type"] == "delta":
        return Streamed(place, correlation, value["attempt"], value["index"])
    return Told(
        place,
        record.key,
        correlation,
        headers["reply-id"].decode(),
        value["status"],
        value["attempt"],
        tuple(Report(report["name"], report["outcome"]) for report in value["tools"]),
        "duplicate-of" in headers,
    )
