"""The engines of this process by name, each with one replica or several."""

from collections import OrderedDict
from collections.abc import Hashable, Iterator, Sequence
from contextlib import contextmanager

from engines.errors import EngineFailed
from engines.serve.pool.choice import least_loaded, speeds
from engines.serve.pool.replica import Replica

_CONVERSATIONS = 10_000  # remembered per name


class _Group:
    """The replicas of one name, and which of them has a conversation's KV."""

    def __init__(self, replicas: Sequence[Replica]) -> None:
        self.replicas = list(replicas)
        self._homes: OrderedDict[Hashable, Replica] = OrderedDict()

    def choose(self, conversation: Hashable | None) -> Replica:
        alive = [replica for replica in self.replicas if replica.alive]
        if not alive:
            raise EngineFailed
        if len(alive) == 1:
            return alive[0]
        home = self._homes.pop(conversation, None) if conversation is not None else None
        chosen = alive[
            least_loaded(
                [replica.open for replica in alive],
                speeds([replica.engine.decode_seconds for replica in alive]),
                alive.index(home) if home in alive else None,
            )
        ]
        if conversation is not None:
            self._homes[conversation] = chosen
            if len(self._homes) > _CONVERSATIONS:
                self._homes.popitem(last=False)
        return chosen


class Pool:
    """Loads, closes and routes nothing itself. Only the event loop's thread calls anything here."""

    def __init__(self) -> None:
        self._groups: dict[str, _Group] = {}

    @property
    def names(self) -> list[str]:
        return list(self._groups)

    def replicas(self, name: str) -> list[Replica]:
        return list(self._groups[name].replicas)

    def alive(self, name: str) -> bool:
        """Whether there is an engine of that name that has not failed."""
        group = self._groups.get(name)
        return group is not None and any(replica.alive for replica in group.replicas)

    @contextmanager
    def lease(self, name: str, conversation: Hashable | None = None) -> Iterator[Replica]:
        """A replica of `name`, for one request. A conversation's next request goes where its KV is, unless
        another replica is much less busy.

        Raises KeyError when there is no such name, EngineFailed when all its replicas have failed.
        """
        with self._groups[name].choose(conversation).lease() as replica:
            yield replica

    def put(self, name: str, replicas: Sequence[Replica]) -> list[Replica]:
        """From now on these answer for `name`. Returns those that did: retire them."""
        before = self.drop(name) if name in self._groups else []
        self._groups[name] = _Group(replicas)
        return before

    def drop(self, name: str) -> list[Replica]:
        """Nobody answers for `name` any more. Returns those that did: retire them."""
        return self._groups.pop(name).replicas
