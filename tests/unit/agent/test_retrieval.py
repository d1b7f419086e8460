"""Choosing the tools that the model gets to see."""

import pytest

from daemon.agent.retrieval import shortlist, terms
from daemon.agent.toolset import Toolset
from daemon.tools.schema_signature import SchemaSignature
from daemon.tools.tool import Tool

DESCRIPTIONS = {
    "order_status": "Tell the status of an order.",
    "refund_order": "Refund an amount of an order.",
    "query_user_data": "Look up a customer by user id.",
    "searchKnowledge": "Search the help articles. 搜索帮助文章。",
    "restart_server": "Restart a virtual machine.",
}


def toolset(choice="auto"):
    return Toolset(
        tuple(
            {"type": "function", "function": {"name": name, "description": text}}
            for name, text in DESCRIPTIONS.items()
        ),
        choice=choice,
    )


def names(tools):
    return [schema["function"]["name"] for schema in tools.schemas]


def test_words_numbers_characters_and_kinds_of_ids():
    assert terms("searchKnowledge order_id A1001") == ["search", "knowledg", "order", "id", "a", "1001", "a#"]
    assert terms("orders refunded refunding refund boxes access is") == [
        *("order", "refund", "refund", "refund", "box", "access", "is")
    ]
    assert terms("搜索帮助 hi 查") == ["搜", "索", "帮", "助", "搜索", "索帮", "帮助", "hi", "查"]
    assert {"ord#", "u#"} <= set(terms("ord-7, U1024"))


def test_the_best_are_taken_in_their_order():
    assert names(shortlist(toolset(), "refund my orders please", 2)) == ["order_status", "refund_order"]
    assert names(shortlist(toolset(), "请搜索一下", 1)) == ["searchKnowledge"]
    assert names(shortlist(toolset(), "which customers are there?", 1)) == ["query_user_data"]


def tool(name, description="d", parameters=(), keywords=()):
    schema = {"type": "object", "properties": dict(parameters)}
    return Tool(name, description, lambda: None, SchemaSignature(schema, "here"), "here", keywords=keywords)


def found(query, *tools, limit=1):
    offered = Toolset(tuple(one.schema for one in tools), tuple((one.name, one) for one in tools))
    return names(shortlist(offered, query, limit))


def test_keywords_bridge_languages_and_are_not_shown():
    english = tool("refund", "Refund an order.", keywords=("退款 退钱", "A1001"))
    others = [tool(f"other_{i}", "Refuse an offer.") for i in range(5)]
    assert found("我要把钱退回来", *others, english) == ["refund"]
    assert found("what about B7 and A2002?", *others, english) == ["refund"]
    assert found("天气", *others, english) == ["other_0"]
    assert "退款" not in str(english.schema)


@pytest.mark.parametrize(
    ("keywords", "query"),
    [
        ("возврат денег", "Верните мне ДЕНЬГИ, нужен Возврат"),
        ("επιστροφή χρημάτων", "Θέλω ΕΠΙΣΤΡΟΦΉ"),
        ("remboursé, à rendre", "Je veux être remboursé"),
        ("استرداد المال", "أريد استرداد طلبي"),
        ("धन वापसी", "मुझे धन वापसी चाहिए"),
        ("返金して", "お金を返金してほしい"),
        ("キャンセル", "注文をｷｬﾝｾﾙしたい"),
        ("환불", "주문을 환불해 주세요"),
        ("คืนเงิน", "ขอคืนเงินได้ไหม"),
        ("refund", "ＲＥＦＵＮＤ　ｐｌｅａｓｅ"),
        ("remboursé".replace("é", "e\u0301"), "remboursé?"),
    ],
)
def test_keywords_are_found_in_any_language(keywords, query):
    others = [tool(f"other_{i}", "Refuse an offer.", keywords=("Грузия 北京 天气",)) for i in range(5)]
    assert found(query, *others, tool("wanted", keywords=(keywords,))) == ["wanted"]


def test_parameters_and_their_values_count():
    nested = {"where": {"type": "object", "properties": {"warehouse": {"enum": ["上海", "hamburg"]}}}}
    listed = {"items": {"type": "array", "items": {"properties": {"colour": {"examples": ["crimson"]}}}}}
    tools = [tool("one"), tool("two", parameters=nested), tool("three", parameters=listed)]
    for query, name in (("warehouse", "two"), ("上海仓", "two"), ("Hamburg?", "two"), ("crimson", "three")):
        assert found(query, *tools) == [name]


def test_odd_schemas_do_no_harm():
    odd = {"type": "function", "function": {"name": "odd", "parameters": {"properties": {"a": True}}}}
    worse = {"type": "function", "function": {"name": "worse", "parameters": {"properties": [1]}}}
    assert names(shortlist(Toolset((odd, worse)), "worse", 1)) == ["worse"]


def test_a_short_list_stays_as_it_is():
    tools = toolset()
    assert shortlist(tools, "refund", 5) is tools


def test_what_is_named_or_was_called_stays():
    assert names(shortlist(toolset("restart_server"), "refund", 2)) == ["refund_order", "restart_server"]
    assert names(shortlist(toolset(), "refund", 2, {"restart_server"})) == ["refund_order", "restart_server"]


def test_what_is_chosen_by_name_stays_before_what_was_called():
    assert names(shortlist(toolset("restart_server"), "", 1, {"refund_order"})) == ["restart_server"]


def test_what_is_not_shown_is_still_found():
    """A call that was made before a crash is resolved though its tool is not shown this time."""
    tools = Toolset((tool("one").schema, tool("two").schema), (("one", tool("one")), ("two", tool("two"))))
    few = shortlist(tools, "two", 1)
    assert names(few) == ["two"] and few.tool("one") is not None


def test_without_a_hint_the_first_are_taken():
    assert names(shortlist(toolset(), "早上好", 2)) == ["order_status", "refund_order"]


async def test_a_prompt_shows_no_more_than_it_may(start, ask):
    prompts = []

    def script(prompt):
        prompts.append(prompt)
        return "\nok<|user|>"

    reply = await ask(None, agent=start(script, max_tools=1), query="note this down")
    assert reply.status == "ok"
    assert "Note something" in prompts[-1] and "order_status" not in prompts[-1]
