from daemon.agent.job import Job
from daemon.tools.access import Access, Grant
from daemon.tools.registry import Registry, register_tool
from schemas.request import Request
from tests.unit.agent.conftest import CALL, says

ACCESS = Access(require={"order_status": ["orders"]}, grants=(Grant(scopes=["orders"], tenants=["acme"]),))


async def test_a_tool_that_may_not_be_called_is_not_there(start):
    shown = []

    def script(prompt):
        shown.append(prompt)
        return CALL if "order_status" in prompt and "<|observation|>" not in prompt else "\nDone.<|user|>"

    agent = start(script, access=ACCESS)
    allowed = await agent.run(Job(Request(query="hi"), "r1", key="t/0/1", tenant="acme"))
    assert [report.outcome for report in allowed.tools] == ["ok"]
    assert "order_status" in shown[0]
    shown.clear()
    reply = await agent.run(Job(Request(query="hi"), "r2", key="t/0/2", tenant="other"))
    assert reply.status == "ok" and reply.tools == [] and "order_status" not in shown[0]
    assert "note" in shown[0]


async def test_nor_can_it_be_called_by_name(start):
    agent = start(says(CALL), access=ACCESS)
    for more in ({"tools": ["order_status"]},
                 {"tool_choice": {"type": "function", "function": {"name": "order_status"}}}):  # fmt: skip
        reply = await agent.run(Job(Request(query="hi", **more), "r", key="t/0/1"))
        assert reply.status == "rejected" and reply.tools == []
    assert reply.error.code == "invalid_request"


async def test_a_request_keeps_the_tools_it_began_with(start, registry):
    released = []
    with registry.collecting():

        @register_tool(description="Take every tool away.")
        async def reload() -> bool:
            agent.registry = Registry()
            registry.retire(lambda: released.append(True))
            return bool(released)

    agent = start(says("reload\n{}<|observation|>", CALL, "\nDone.<|user|>"))
    reply = await agent.run(Job(Request(query="hi"), "r", key="t/0/1"))
    assert [(report.name, report.outcome) for report in reply.tools] == [
        ("reload", "ok"),
        ("order_status", "ok"),
    ]
    assert reply.tools[0].result is False and released == [True]
    later = await agent.run(Job(Request(query="hi", tools=["order_status"]), "r", key="t/0/2"))
    assert later.error.code == "unknown_tool"
