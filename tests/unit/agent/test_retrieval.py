"""Choosing the tools that the model gets to see."""

from daemon.agent.retrieval import shortlist, terms
from daemon.agent.toolset import Toolset

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


def test_words_numbers_and_pairs_of_characters():
    assert terms("searchKnowledge order_id A1001") == ["search", "knowledge", "order", "id", "a", "1001"]
    assert terms("orders boxes access bus") == ["order", "boxe", "access", "bus"]
    assert terms("搜索帮助 hi 查") == ["搜索", "索帮", "帮助", "hi", "查"]


def test_the_best_are_taken_in_their_order():
    assert names(shortlist(toolset(), "refund my orders please", 2)) == ["order_status", "refund_order"]
    assert names(shortlist(toolset(), "请搜索一下", 1)) == ["searchKnowledge"]
    assert names(shortlist(toolset(), "which customers are there?", 1)) == ["query_user_data"]


def test_a_short_list_stays_as_it_is():
    tools = toolset()
    assert shortlist(tools, "refund", 5) is tools


def test_what_is_named_or_was_called_stays():
    assert names(shortlist(toolset("restart_server"), "refund", 2)) == ["refund_order", "restart_server"]
    assert names(shortlist(toolset(), "refund", 2, {"restart_server"})) == ["refund_order", "restart_server"]


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
