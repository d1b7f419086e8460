"""Who answers which request."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from daemon.agent.job import Job
from daemon.agent.speaker import Speaker
from daemon.errors import EngineInterrupted, UnknownModel
from daemon.routing.route import Route, stranded
from engines.errors import EngineFailed, GpuFailed
from engines.serve.pool.pool import Pool
from engines.serve.pool.replica import Replica


class Router:
    """`routes` and what is in `pool` may change at any time: a request stays with the replica it was given.

    The first route that takes a request counts. A request that names a model which no route takes goes to the
    engine of that name, and to no other.
    """

    def __init__(self, pool: Pool, routes: Sequence[Route] = ()) -> None:
        self.pool, self.routes = pool, tuple(routes)
        self._speakers: dict[Replica, Speaker] = {}

    @contextmanager
    def choose(self, job: Job) -> Iterator[Speaker]:
        """The one that answers `job`, all rounds of it.

        Raises UnknownModel, EngineFailed when that ends the process, and EngineInterrupted when another try
        may go elsewhere; the latter two also instead of an EngineFailed from inside.
        """
        name = self._name(job)
        try:
            with self.pool.lease(name, job.conversation) as replica:
                yield self._speaker(name, replica)
        except EngineFailed as error:
            if self.fatal(name, error):
                raise
            raise EngineInterrupted from error

    def fatal(self, name: str, error: BaseException) -> bool:
        """Whether the daemon has to end because a replica of `name` failed with `error`: the GPU is gone, or
        requests that nobody else may answer have nowhere to go. To one out of service none go any more."""
        gpu = isinstance(error, GpuFailed) or isinstance(error.__cause__, GpuFailed)
        in_service = name in self.pool.names
        return gpu or (in_service and not self.pool.alive(name) and self.stranded(name))

    def stranded(self, name: str) -> bool:
        """Whether nobody is there for some request of the engine `name`, once it is gone itself."""
        return stranded(self.routes, name, self.pool.alive)

    def forget(self, replica: Replica) -> None:
        """It answers no more."""
        self._speakers.pop(replica, None)

    def _name(self, job: Job) -> str:
        request, pool = job.request, self.pool
        wanted = (request.task, request.model, job.topic, job.tenant)
        route = next((route for route in self.routes if route.takes(*wanted)), None)
        if route is not None:
            names: Sequence[str] = route.engines
        elif request.model in pool.names:
            names = [request.model]
        else:
            known = [*pool.names, *(model for route in self.routes for model in route.models or ())]
            raise UnknownModel(
                f"there is no engine {request.model!r} here; leave `model` out or use one of: "
                f"{', '.join(known)}."
            )
        if (name := next(filter(pool.alive, names), None)) is not None:
            return name
        if self.stranded(names[0]):
            raise EngineFailed
        raise EngineInterrupted(
            f"the engine {names[0]!r} has failed; leave `model` out to be answered by another one."
        )

    def _speaker(self, name: str, replica: Replica) -> Speaker:
        speaker = self._speakers.get(replica)
        if speaker is None:
            tokenizer = replica.engine.tokenizer
            assert tokenizer is not None  # looked at before it was loaded
            speaker = self._speakers[replica] = Speaker(replica.engine, tokenizer, name)
        return speaker
