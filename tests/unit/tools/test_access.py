import pytest

from daemon.tools.access import Access, Caller, Grant
from daemon.tools.registry import Registry, register_tool


@pytest.fixture
def registry():
    with Registry().collecting() as registered:

        @register_tool(description="d")
        def free() -> None: ...

        @register_tool(description="d", scopes=["orders", "money"])
        def refund() -> None: ...

        @register_tool(description="d")
        def mcp_write() -> None: ...

    return registered


ACCESS = Access(
    require={"mcp_*": ["files"]},
    grants=(
        Grant(scopes=["orders"], topics=["desk.*"]),
        Grant(scopes=["money"], topics=["desk.requests"], tenants=["acme"], users=["boss-*"]),
        Grant(scopes=["files"], users=["boss-*"]),
    ),
)


@pytest.mark.parametrize(
    ("caller", "names"),
    [
        (Caller(), ["free"]),
        (Caller("desk.requests", "acme", "boss-1"), ["free", "refund", "mcp_write"]),
        (Caller("desk.requests", "acme", "clerk"), ["free"]),
        (Caller("desk.requests", "other", "boss-1"), ["free", "mcp_write"]),
        (Caller("desk.requests", None, "boss-1"), ["free", "mcp_write"]),
        (Caller("public", "acme", "boss-1"), ["free", "mcp_write"]),
        (Caller("desk.requests", "acme", None), ["free"]),
    ],
)
def test_a_caller_sees_what_was_granted(registry, caller, names):
    assert ACCESS.view(registry, caller).names() == names


def test_without_settings_scopes_are_nobodys(registry):
    assert Access().view(registry, Caller("t", "t", "u")).names() == ["free", "mcp_write"]
