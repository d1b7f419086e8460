import pytest

import openautoglm
from daemon.errors import UnknownTool
from daemon.tools.errors import ToolDeclarationError
from daemon.tools.registry import Registry


@pytest.fixture
def registry():
    with Registry().collecting() as collected:
        yield collected


def test_a_decorated_function_is_a_tool_and_stays_a_function(registry):
    @openautoglm.register_tool(timeout=2.0, scopes=["desk"])
    def look(user_id: str) -> str:
        """Look up
        a customer.

        Not for the model.
        """
        return user_id

    assert look("U1") == "U1"
    tool = registry.get("look")
    assert (tool.description, tool.timeout, tool.scopes) == ("Look up a customer.", 2.0, frozenset({"desk"}))
    assert tool.schema["function"]["parameters"]["required"] == ["user_id"]
    assert tool.keywords == ()
    assert "look" in registry and len(registry) == 1 and list(registry) == [tool]


@pytest.mark.parametrize("keywords", ["查询", ["查询"]])
def test_keywords_are_texts(registry, keywords):
    @openautoglm.register_tool(description="d", keywords=keywords)
    def look() -> None: ...

    assert registry.get("look").keywords == ("查询",) and "查询" not in str(registry.get("look").schema)


def test_bare_decorator_and_async(registry):
    @openautoglm.register_tool
    async def ping() -> str:
        """Ping."""
        return "pong"

    assert registry.get("ping").is_async


def test_a_second_tool_of_the_same_name_names_both_places(registry):
    @openautoglm.register_tool(name="same", description="one")
    def first(): ...

    with pytest.raises(ToolDeclarationError) as caught:

        @openautoglm.register_tool(name="same", description="two")
        def second(): ...

    for function in (first, registry.get("same").function):
        assert f"{__file__}:{function.__code__.co_firstlineno}" in str(caught.value)
    assert str(caught.value).count(__file__) == 2


def test_unknown_names_say_what_there_is(registry):
    with pytest.raises(UnknownTool, match="none is registered"):
        registry.get("x")
    openautoglm.register_tool(lambda: 1, name="y", description="d")
    with pytest.raises(UnknownTool, match="use one of: y"):
        registry.get("x")


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"name": "two words", "description": "d"}, "a name is"),
        ({"name": "x"}, "give a description"),
        ({"name": "x", "description": "d", "timeout": 0}, "timeout"),
        ({"name": "x", "description": "d", "retries": 1}, "side effects"),
        ({"name": "x", "description": "d", "retries": -1}, "retries"),
        ({"name": "x", "description": "d", "concurrency": 0}, "concurrency"),
    ],
)
def test_wrong_declarations_are_refused(registry, options, reason):
    with pytest.raises(ToolDeclarationError, match=reason):
        openautoglm.register_tool(lambda: 1, **options)
    assert len(registry) == 0


def test_generator_functions_are_refused(registry):
    def lines(arguments: str, result: str):
        yield 1

    async def pages(arguments: str, result: str):
        yield 1

    for function in (lines, pages):
        with pytest.raises(ToolDeclarationError, match=r"it is a generator function.*return instead"):
            openautoglm.register_tool(function, description="d")
        for hook in ("compensate", "reconcile"):
            with pytest.raises(ToolDeclarationError, match=f"{hook} is a generator function"):
                openautoglm.register_tool(lambda: 1, name="x", description="d", **{hook: function})
