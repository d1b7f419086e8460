"""Conversations in Redis, or whatever speaks its protocol: shared by all daemons, kept across restarts."""

from collections.abc import Iterator
from contextlib import contextmanager
from math import ceil
from typing import TYPE_CHECKING

from daemon.errors import ConfigurationError
from daemon.memory.errors import MemoryUnavailable
from daemon.memory.place import Place
from daemon.memory.store import Change

if TYPE_CHECKING:
    from redis.asyncio.client import Pipeline

_TIMEOUT_SECONDS = 2.0
_PREFIX = "autoglm:memory:1:"  # 1: the form of the values


class RedisStore:
    """See Store. Every write makes a conversation last `keep_seconds` more. Connects with the first use."""

    def __init__(self, url: str, keep_seconds: float) -> None:
        """`url`: redis://, rediss:// or unix://, with user, password and database if need be.

        Raises ConfigurationError when that is no such URL, or the client is not installed.
        """
        try:
            from redis.asyncio import Redis
            from redis.asyncio.retry import Retry
            from redis.backoff import NoBackoff
        except ImportError as error:
            raise ConfigurationError(
                "`memory.url` needs the Redis client; install this package with its extra `redis`."
            ) from error
        try:
            # Once more at once: a connection may have been closed while nobody used it.
            self._client = Redis.from_url(
                url,
                socket_timeout=_TIMEOUT_SECONDS,
                socket_connect_timeout=_TIMEOUT_SECONDS,
                retry=Retry(NoBackoff(), 1),
            )
        except ValueError as error:
            raise ConfigurationError(
                f"`memory.url` is no Redis URL: {error}; write redis://HOST:6379/0."
            ) from error
        self._keep = ceil(keep_seconds)

    async def read(self, place: Place) -> bytes | None:
        with _explained():
            return _plain(await self._client.get(_PREFIX + place.conversation))

    async def update(self, place: Place, change: Change) -> None:
        name = _PREFIX + place.conversation

        async def replace(pipeline: "Pipeline") -> None:
            # Watched: when somebody else writes in between, the whole is done again.
            value = change(_plain(await pipeline.get(name)))
            pipeline.multi()  # type: ignore[no-untyped-call]
            if value:
                pipeline.set(name, value, ex=self._keep)
            else:
                pipeline.delete(name)

        with _explained():
            await self._client.transaction(replace, name)

    def forget(self, topic: str, partition: int) -> None:
        pass  # whoever answers in between writes here as well

    async def close(self) -> None:
        await self._client.aclose()


def _plain(value: bytes | str | None) -> bytes | None:
    """Text only where the URL asks for it."""
    return value.encode() if isinstance(value, str) else value


@contextmanager
def _explained() -> Iterator[None]:
    from redis.exceptions import RedisError

    try:
        yield
    except (RedisError, OSError) as error:
        raise MemoryUnavailable(
            f"The conversation memory does not answer ({type(error).__name__}: {error}); "
            "send the request again later, or see to the server at `memory.url`."
        ) from error
