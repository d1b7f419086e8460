"""Topics: created or verified at the start, and looked up before a reply is sent to one."""

import asyncio
import contextlib
import time
from dataclasses import dataclass
from typing import Any

import structlog
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import (
    ClusterAuthorizationFailedError,
    InvalidConfigurationError,
    InvalidPartitionsError,
    InvalidRequestError,
    InvalidTopicError,
    KafkaError,
    PolicyViolationError,
    TopicAlreadyExistsError,
    TopicAuthorizationFailedError,
    UnknownTopicOrPartitionError,
    UnsupportedVersionError,
    for_code,
)

from daemon.kafka.brokers.producer import may_pass
from daemon.kafka.errors import JournalUnfit, TopicMissing
from daemon.kafka.settings import KafkaSettings

# A name that was not there is asked for again after this long: topics are created while we run.
_RECHECK_SECONDS = 1.0
_MISSING_KEPT = 1_000
_REFUSED_SECONDS = 60.0
_LISTED_SECONDS, _LISTED_POLL_SECONDS = 15.0, 0.05
_LIMIT = "max.message.bytes"
_CLEANUP = "cleanup.policy"
# What the brokers say of a topic that they will not create later either.
_NEVER = (
    InvalidTopicError,
    InvalidConfigurationError,
    InvalidPartitionsError,
    InvalidRequestError,
    PolicyViolationError,
    UnsupportedVersionError,
    ClusterAuthorizationFailedError,
    TopicAuthorizationFailedError,
)
# Small segments, cleaned soon: whoever is given a partition reads its journal first.
_JOURNAL = {
    _CLEANUP: "compact",
    "segment.ms": str(10 * 60_000),
    "segment.bytes": str(16 * 2**20),
    "min.cleanable.dirty.ratio": "0.1",
    "delete.retention.ms": str(60 * 60_000),
}


log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Topic:
    """`max_bytes`: the largest record batch the brokers take for it. `compacted`: records need a key."""

    partitions: int
    max_bytes: int
    compacted: bool = False


class Topics:
    """What the cluster's topics are like. Never causes a topic to be created by asking for it."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        self._admin = AIOKafkaAdminClient(**settings.connection())
        self._partitions: dict[str, int] = {}
        self._known: dict[str, Topic] = {}
        self._refreshed = self._doubted = -_RECHECK_SECONDS
        self._refreshing = asyncio.Lock()
        self._missing: dict[str, float] = {}
        self._refused: dict[str, float] = {}  # until when
        self._preparing = asyncio.Lock()
        self._journal_fits = False

    async def start(self) -> None:
        """Creates or verifies what the settings name.

        Raises TopicMissing, JournalUnfit or aiokafka's KafkaError.
        """
        await self._admin.start()
        await self._refresh()
        settings = self._settings
        wanted = {*settings.request_topics, settings.reply_topic, settings.dead_letter_topic}
        wanted |= {settings.metrics_topic, settings.control_topic, settings.audit_topic}
        missing = sorted(wanted - self._partitions.keys())
        journal = settings.journal_topic
        if journal not in self._partitions and not settings.create_topics:
            missing.append(journal)
        if missing and not settings.create_topics:
            names = ", ".join(missing)
            raise TopicMissing(f"Topics do not exist: {names}; create them or set `kafka.create_topics`.")
        if missing:
            await self._create(missing, settings.partitions, {})
            await self._until_listed(missing)
        # A request's notes lie in the journal's partition of the same number.
        # Those that were just created may not be listed yet.
        counts = [self._partitions.get(name, settings.partitions) for name in settings.request_topics]
        await self.prepare_journal(max(counts))

    async def stop(self) -> None:
        await self._admin.close()

    async def find(self, name: str) -> Topic | None:
        """The topic, or None when it does not exist or is refused: asked anew, unless it was missing a second
        ago.

        Waits while brokers are away.
        """
        asked = time.monotonic()
        if asked < self._refused.get(name, 0.0):
            return None
        if asked - self._missing.get(name, -_RECHECK_SECONDS) < _RECHECK_SECONDS:
            return None
        while (name not in self._partitions or self._refreshed <= self._doubted) and self._refreshed < asked:
            async with self._refreshing:
                if self._refreshed < asked:  # nobody else has asked meanwhile
                    await self._try_refresh()
        if name not in self._partitions:
            if len(self._missing) >= _MISSING_KEPT:
                self._missing.clear()
            self._missing[name] = self._refreshed
            return None
        return self._known.get(name) or await self._describe(name, self._partitions[name])

    def doubt(self) -> None:
        """Something could not be written: what is known of topics may not be true any more."""
        self._doubted = time.monotonic()
        self._known.clear()

    def refuse(self, name: str) -> None:
        """The brokers take nothing of ours for this topic: for a minute it is as if it did not exist."""
        if len(self._refused) >= _MISSING_KEPT:
            self._refused.clear()
        self._refused[name] = time.monotonic() + _REFUSED_SECONDS
        log.error("topic_refused", topic=name, seconds=_REFUSED_SECONDS)

    async def _try_refresh(self) -> None:
        try:
            await self._refresh()
        except Exception as error:
            if not may_pass(error):
                raise
            await asyncio.sleep(_RECHECK_SECONDS)

    async def _refresh(self) -> None:
        asked = time.monotonic()
        # All topics at once: a request that names a topic creates it where the broker allows that.
        listed: list[dict[str, Any]] = await self._admin.describe_topics(None)
        self._partitions = {topic["topic"]: len(topic["partitions"]) for topic in listed}
        self._refreshed = asked

    async def _until_listed(self, names: list[str]) -> None:
        """Brokers answer from a copy of the metadata, which is late after a topic was created."""
        give_up = time.monotonic() + _LISTED_SECONDS
        await self._refresh()
        while not self._partitions.keys() >= set(names) and time.monotonic() < give_up:
            await asyncio.sleep(_LISTED_POLL_SECONDS)
            await self._refresh()

    async def prepare_journal(self, partitions: int) -> None:
        """Creates the journal's topic or adds what it lacks to that many partitions.

        Raises JournalUnfit, TopicMissing or aiokafka's KafkaError.
        """
        journal = self._settings.journal_topic
        async with self._preparing:
            there = self._partitions.get(journal, 0)
            if there >= partitions and self._journal_fits:
                return
            if not there:
                await self._create([journal], partitions, _JOURNAL)
            elif there < partitions:
                await self._grow(journal, there, partitions)
            # The brokers' own answer may lag behind.
            self._partitions[journal] = max(there, partitions)
            await self._check_policy(journal)
            self._journal_fits = True

    async def _grow(self, journal: str, there: int, partitions: int) -> None:
        if not self._settings.create_topics:
            raise JournalUnfit(f"{journal} has {there} partitions, it needs {partitions}; add some.")
        with contextlib.suppress(InvalidPartitionsError):  # another daemon was faster
            await self._admin.create_partitions({journal: NewPartitions(total_count=partitions)})

    async def _check_policy(self, journal: str) -> None:
        policy = (await self._config(journal) or {}).get(_CLEANUP)
        if policy is not None and "compact" not in policy:
            raise JournalUnfit(f"{journal} has {_CLEANUP} = {policy}; set it to compact.")

    async def _describe(self, name: str, partitions: int) -> Topic:
        """With the limit of the settings where we may not ask, and for now where nobody answers."""
        config = await self._config(name)
        told = config or {}
        limit = int(told.get(_LIMIT, self._settings.max_record_bytes))
        topic = Topic(partitions, limit, "compact" in told.get(_CLEANUP, ""))
        if config is not None:
            self._known[name] = topic
        return topic

    async def _config(self, name: str) -> dict[str, str] | None:
        """A topic's configuration, empty where we may not ask; None when no broker tells us now."""
        keys = {_LIMIT: None, _CLEANUP: None}
        try:
            responses = await self._admin.describe_configs(
                [ConfigResource(ConfigResourceType.TOPIC, name, keys)]
            )
            code, message, _type, _name, entries = responses[0].resources[0]
            if code:
                raise for_code(code)(message)
        except (TopicAuthorizationFailedError, ClusterAuthorizationFailedError):
            return {}
        except UnknownTopicOrPartitionError:
            return None  # made a moment ago, which not every broker knows yet
        except (KafkaError, AssertionError) as error:
            log.warning("topic_not_described", topic=name, error=repr(error))
            return None
        return {found: str(value) for found, value, *_ in entries}

    async def _create(self, names: list[str], partitions: int, configs: dict[str, str]) -> None:
        """Raises TopicMissing for what the brokers will never create, else KafkaError: a cluster that is half
        up has too few brokers for the factor, or no controller.
        """
        settings = self._settings
        factor = settings.replication_factor
        # The client lets the broker choose the factor only beside an (empty) explicit placement.
        placed: dict[int, list[int]] | None = {} if factor == -1 else None
        new = [NewTopic(name, partitions, factor, placed, configs) for name in names]
        response = await self._admin.create_topics(new)
        refused = [
            (name, for_code(code), " ".join(filter(None, details)))
            for name, code, *details in response.topic_errors
            if code and for_code(code) is not TopicAlreadyExistsError
        ]
        for name, error, said in refused:
            if error in _NEVER:
                raise TopicMissing(
                    f"Topic {name} could not be created ({error.__name__}: {said}); create it or mend that."
                )
        for name, error, said in refused:
            raise error(
                f"Topic {name} could not be created yet: {said or error.__name__} Check that all brokers are "
                "up, and no fewer than `kafka.replication_factor`."
            )
