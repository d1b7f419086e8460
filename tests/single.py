"""A router over one engine, for tests that are about something else."""

from daemon.routing.route import Route
from daemon.routing.router import Router
from engines.serve.pool.pool import Pool
from engines.serve.pool.replica import Replica


def single(engine, name="bench", tokenizer=None):
    """`tokenizer`: for an engine that was not loaded from a folder."""
    engine.tokenizer = tokenizer or engine.tokenizer
    pool = Pool()
    pool.put(name, [Replica(engine)])
    return Router(pool, [Route(engine=name)])
