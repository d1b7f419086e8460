import gc
import json
import sqlite3
import threading
from pathlib import Path

import pytest

import engines.demo
from daemon.tools.context import ToolContext
from daemon.tools.executor import Executor
from daemon.tools.loading import load_tools


@pytest.fixture
def desk(tmp_path):
    from daemon.demo.database import Database
    from daemon.demo.desk import Desk, declare
    from daemon.tools.registry import Registry

    with Registry().collecting() as registry:
        declare(Desk(Database(tmp_path / "state" / "desk.sqlite3")))
    return registry


@pytest.fixture
def call(desk):
    async def run(name, key="", **arguments):
        execution = await Executor().run(desk.get(name), arguments, ToolContext(idempotency_key=key))
        return execution.result

    return run


SHAPES = {
    "query_user_data": ({"user_id": "U1024"}, ["user_id", "name", "tier", "email", "orders"]),
    "order_status": ({"order_id": "A1001"}, ["order_id", "status", "carrier", "eta"]),
    "refund_order": ({"order_id": "A1002", "amount": 25.5}, ["order_id", "refund_id", "amount", "status"]),
    "create_ticket": ({"user_id": "vip_8", "subject": "登录"}, ["ticket_id", "priority", "status"]),
    "cancel_ticket": ({"ticket_id": "T501"}, ["ticket_id", "status"]),
    "search_knowledge": ({"query": "How do I reset my password?"}, ["title", "text"]),
    "assess_risk": ({"user_id": "U1031", "amount": 5000}, ["user_id", "amount", "risk", "score"]),
    "service_status": ({"service": "payment"}, ["service", "status", "since"]),
}


async def test_results_have_the_keys_the_model_was_trained_on(call, desk):
    assert desk.names() == list(SHAPES)
    for name, (arguments, keys) in SHAPES.items():
        assert list(await call(name, **arguments)) == keys


def test_the_model_was_trained_on_exactly_these_tools(desk):
    trained = json.loads((Path(engines.demo.__path__[0]) / "tools.json").read_text("utf-8"))
    # As text: the order of the keys is what the prompt shows.
    assert json.dumps([tool.schema for tool in desk]) == json.dumps(trained)


async def test_values(call):
    assert await call("order_status", order_id="a1001") == {
        "order_id": "A1001", "status": "shipped", "carrier": "DHL", "eta": "2026-12-03",
    }  # fmt: skip
    assert (await call("query_user_data", user_id="10086"))["orders"] == ["8830021", "8830022"]
    assert (await call("search_knowledge", query="怎么申请退货"))["title"] == "Return an item"
    assert (await call("service_status", service="支付"))["status"] == "degraded"
    assert (await call("assess_risk", user_id="U1024", amount=20))["risk"] == "low"
    assert (await call("assess_risk", user_id="U2002", amount=90000))["risk"] == "high"


async def test_failures_are_short_sentences(call):
    assert await call("order_status", order_id="ZZ99") == {"error": "order ZZ99 not found"}
    assert await call("query_user_data", user_id="nobody") == {"error": "user nobody not found"}
    assert await call("cancel_ticket", ticket_id="T57") == {"error": "ticket T57 is already closed"}
    assert await call("search_knowledge", query="zebra") == {"error": "no article about zebra"}
    assert await call("refund_order", order_id="A1002", amount=46) == {
        "error": "order A1002 has only 45 left to refund"
    }
    assert await call("refund_order", order_id="A1002", amount=-1) == {
        "error": "the amount must be more than 0"
    }
    assert (await call("create_ticket", user_id="U77", subject="x", priority="asap"))["error"].startswith(
        "priority: "
    )


async def test_refunds_add_up_and_are_repeated_only_by_key(call):
    first = await call("refund_order", "k1", order_id="A1002", amount=20)
    assert await call("refund_order", "k1", order_id="A1002", amount=20) == first
    second = await call("refund_order", "k2", order_id="A1002", amount=25)
    assert second["refund_id"] != first["refund_id"]
    assert (await call("order_status", order_id="A1002"))["status"] == "refunded"
    assert "error" in await call("refund_order", "k3", order_id="A1002", amount=0.01)


async def test_a_ticket_lives(call, desk):
    ticket = await call("create_ticket", "k1", user_id="U77", subject="broken", priority="high")
    assert ticket["priority"] == "high" and ticket["status"] == "open"
    assert await call("create_ticket", "k1", user_id="U77", subject="broken", priority="high") == ticket
    assert (await call("create_ticket", "k2", user_id="U77", subject="broken")) != ticket
    undone = desk.get("create_ticket").compensate({}, ticket)
    assert undone == {"ticket_id": ticket["ticket_id"], "status": "cancelled"}
    assert await call("cancel_ticket", ticket_id=ticket["ticket_id"]) == undone


async def test_hostile_values_are_only_values(call):
    assert (await call("order_status", order_id="' OR 1=1 --"))["error"] == "order ' OR 1=1 -- not found"
    await call("create_ticket", user_id="U77", subject="'); DROP TABLE tickets; --")
    assert (await call("cancel_ticket", ticket_id="T55"))["status"] == "cancelled"


def test_two_daemons_may_find_the_same_empty_file(tmp_path):
    from daemon.demo.database import Database

    counts = []

    def count():
        with Database(tmp_path / "desk.sqlite3").transaction() as db:
            counts.append(db.execute("SELECT count(*) FROM users").fetchone()[0])

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counts == [11] * 4


def test_kept_connections_are_closed_with_their_database(tmp_path):
    from daemon.demo.database import Database

    database = Database(tmp_path / "desk.sqlite3")
    with database.transaction() as connection:
        pass
    connection.execute("SELECT 1")
    del database
    gc.collect()
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        connection.execute("SELECT 1")


def test_loads_as_a_tool_module_any_number_of_times():
    first, second = load_tools(["daemon.demo.desk"]), load_tools(["daemon.demo.desk"])
    assert first.names() == second.names() == list(SHAPES)
    assert [tool.schema for tool in first] == json.loads(json.dumps([tool.schema for tool in second]))
