"""The bundled model's prompt is the same in training and in the daemon."""

from engines.demo import tokens
from engines.demo.dialogue import TOOLS
from engines.tokenizer import Tokenizer


def test_the_daemon_renders_what_the_model_was_trained_on():
    trained = tokens.train(["refund order A1001 please, 25.5 dollars", "请退款 A1001"] * 20, 600)
    tokenizer = Tokenizer(trained.to_str(), template=tokens.TEMPLATE.read_text("utf-8"))
    arguments, result = '{"order_id": "A1001", "amount": 25.5}', '{"refund_id": "R1", "amount": 25.5}'
    function = {"name": "refund_order", "arguments": arguments}
    call = {
        "role": "assistant",
        "content": "",
        "tool_calls": [{"id": "c1", "type": "function", "function": function}],
    }
    openai = [
        {"role": "user", "content": "请退款 A1001"},
        call,
        {"role": "tool", "tool_call_id": "c1", "name": "refund_order", "content": result},
        {"role": "assistant", "content": "好的"},
        {"role": "user", "content": "thanks"},
    ]
    native = [
        openai[0],
        {"role": "assistant", "metadata": "refund_order", "content": arguments},
        {"role": "observation", "content": result},
        *openai[3:],
    ]
    assert tokenizer.format.name == "glm4"
    assert tokenizer.render(openai, TOOLS) == tokens.Renderer(trained).ids(native, TOOLS, True)
