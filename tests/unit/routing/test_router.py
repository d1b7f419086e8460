"""Which engine answers which request, also while engines fail."""

from types import SimpleNamespace

import pytest

from daemon.agent.job import Job
from daemon.errors import EngineInterrupted, UnknownModel
from daemon.routing.route import Route, problems
from daemon.routing.router import Router
from engines.errors import EngineFailed, GpuFailed
from engines.serve.pool.pool import Pool
from engines.serve.pool.replica import Replica
from schemas.request import Request

ROUTES = (
    Route(engine="small", fallback="big", tasks=["classify", "extract"]),
    Route(engine="small", fallback="big", models=["gpt-*"], tenants=["acme"]),
    Route(engine="spare", topics=["batch.*"], fallback="big"),
    Route(engine="big", fallback="small"),
)


@pytest.fixture
def router():
    pool = Pool()
    for name in ("big", "small", "spare", "own"):
        engine = SimpleNamespace(alive=True, decode_seconds={}, tokenizer=SimpleNamespace(format=None))
        pool.put(name, [Replica(engine)])
    return Router(pool, ROUTES)


def job(task="chat", model=None, topic="t", tenant=None):
    return Job(Request(query="hi", task=task, model=model), "r", topic=topic, tenant=tenant)


def chosen(router, **request):
    with router.choose(job(**request)) as speaker:
        return speaker.model


def fail(router, name):
    router.pool.replicas(name)[0].engine.alive = False


@pytest.mark.parametrize(
    ("request_", "engine"),
    [
        ({}, "big"),
        ({"task": "classify"}, "small"),
        ({"task": "extract", "topic": "batch.1"}, "small"),  # the first that fits
        ({"topic": "batch.1"}, "spare"),
        ({"tenant": "acme"}, "big"),
        ({"model": "gpt-5", "tenant": "acme"}, "small"),
        ({"model": "own"}, "own"),
        ({"model": "big", "task": "classify"}, "big"),  # whoever names an engine gets it
    ],
)
def test_the_first_route_that_takes_a_request_counts(router, request_, engine):
    assert chosen(router, **request_) == engine


@pytest.mark.parametrize("request_", [{"model": "other"}, {"model": "gpt-5"}])
def test_an_unknown_model_is_told_what_there_is(router, request_):
    with pytest.raises(UnknownModel, match=r"use one of: big, small, spare, own, gpt-\*\."):
        chosen(router, **request_)


def test_the_fallback_answers_while_the_engine_is_gone(router):
    fail(router, "small")
    assert chosen(router, task="classify") == "big"
    router.pool.drop("spare")
    assert chosen(router, topic="batch.1") == "big"
    with pytest.raises(EngineInterrupted, match="'small' has failed; leave `model` out"):
        chosen(router, model="small")


def test_who_was_interrupted_may_try_again_where_another_engine_is(router):
    with pytest.raises(EngineInterrupted) as caught, router.choose(job()):
        fail(router, "big")
        raise EngineFailed("device lost")
    assert (caught.value.code, caught.value.retryable) == ("engine_failed", True)
    assert chosen(router) == "small"


@pytest.mark.parametrize(
    ("name", "lost", "error"),
    [
        ("big", "small", EngineFailed()),  # the fallback had failed before
        ("own", None, EngineFailed()),  # in no route: nobody else answers to its name
        ("big", None, GpuFailed()),  # whatever else there is
    ],
)
def test_without_another_engine_or_gpu_the_process_ends(router, name, lost, error):
    if lost:
        fail(router, lost)
    with pytest.raises(EngineFailed), router.choose(job(model=name)):
        fail(router, name)
        raise EngineFailed("the engine stopped") from error


def test_one_out_of_service_takes_nobody_with_it(router):
    with pytest.raises(EngineInterrupted), router.choose(job(model="own")):
        router.pool.drop("own")
        raise EngineFailed


def test_another_replica_of_the_same_name_is_enough(router):
    engine = SimpleNamespace(alive=True, decode_seconds={}, tokenizer=SimpleNamespace(format=None))
    router.pool.put("own", [*router.pool.replicas("own"), Replica(engine)])
    with pytest.raises(EngineInterrupted), router.choose(job(model="own")):
        fail(router, "own")
        raise EngineFailed
    assert chosen(router, model="own") == "own"


def test_a_table_that_cannot_work_is_refused_with_the_remedy():
    found = problems([Route(engine="a", fallback="x", tasks=["chat"])], ["a", "b"])
    assert found[0] == "routes.0: there is no engine 'x'; use one of: a, b."
    assert "no route that takes every request" in found[1] and "a, b" in found[1]
    assert problems([], ["a"]) == problems([Route(engine="b")], ["a", "b"]) == []
