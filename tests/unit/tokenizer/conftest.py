"""A real byte-level BPE vocabulary, trained in a moment, and chat templates in the manner of GLM."""

import json

import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

from engines import tokenizer as ours

SPECIAL = [
    "<|endoftext|>", "[MASK]", "[gMASK]", "[sMASK]", "<sop>", "<eop>",
    "<|system|>", "<|user|>", "<|assistant|>", "<|observation|>",
]  # fmt: skip
MARKS = [
    "<think>", "</think>", "<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>",
    "<arg_key>", "</arg_key>", "<arg_value>", "</arg_value>", "/nothink",
]  # fmt: skip
CORPUS = [
    'refund_order\n{"order_id": "A1001", "amount": 25.5}',
    'create_ticket\n{"user_id": "U77", "subject": "login broken", "priority": "high"}',
    "What is the status of order ORD-20391? 订单到哪里了？ Please help, thanks!",
    'tool_call(order_id="A1001", amount=5) ```python assistant user system observation',
] * 20

GLM4_TEMPLATE = """[gMASK]<sop>
{%- if tools -%}
<|system|>
Tools:
{% for tool in tools %}
- {{ tool.function.name }}: {{ tool.function.description }} {{ tool.function.parameters | tojson }}
{% endfor %}
{%- endif -%}
{%- for message in messages -%}
<|{{ message.role }}|>{{ message.metadata }}
{{ message.content }}
{%- endfor -%}
{%- if add_generation_prompt -%}<|assistant|>{%- endif -%}"""

GLM45_TEMPLATE = """[gMASK]<sop>
{%- if tools %}<|system|>
For each call write <tool_call>{function-name}SEP<arg_key>{arg-key-1}</arg_key>
{% for tool in tools %}{{ tool | tojson(ensure_ascii=False) }}
{% endfor %}{% endif %}
{%- for m in messages %}
{%- if m.role == 'user' %}<|user|>
{{ m.content }}{{ '/nothink' if not enable_thinking and not m.content.endswith('/nothink') else '' }}
{%- elif m.role == 'assistant' %}<|assistant|>
<think></think>
{{ m.content }}
{%- for call in m.tool_calls or [] %}
<tool_call>{{ call.function.name }}
{% for key, value in call.function.arguments.items() %}<arg_key>{{ key }}</arg_key>
<arg_value>{{ value if value is string else value | tojson }}</arg_value>
{% endfor %}</tool_call>
{%- endfor %}
{%- elif m.role == 'tool' %}<|observation|>
<tool_response>
{{ m.content }}
</tool_response>
{%- else %}<|{{ m.role }}|>
{{ m.content }}
{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}<|assistant|>
<think></think>{% endif %}"""


def _definition(marks: list[str]) -> str:
    whole = Tokenizer(models.BPE())
    whole.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    whole.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=500,
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    whole.train_from_iterator(CORPUS, trainer)
    whole.add_tokens([AddedToken(mark, special=False, normalized=False) for mark in marks])
    return whole.to_str()


@pytest.fixture(scope="session")
def glm4() -> ours.Tokenizer:
    return ours.Tokenizer(_definition([]), template=GLM4_TEMPLATE)


@pytest.fixture(scope="session")
def glm45() -> ours.Tokenizer:
    return ours.Tokenizer(_definition(MARKS), template=GLM45_TEMPLATE.replace("SEP", "\n"))


@pytest.fixture(scope="session")
def glm47() -> ours.Tokenizer:
    return ours.Tokenizer(_definition(MARKS), template=GLM45_TEMPLATE.replace("SEP", ""))


@pytest.fixture(scope="session")
def chatglm3() -> ours.Tokenizer:
    return ours.Tokenizer(_definition([]), {"tool_format": "chatglm3"}, GLM4_TEMPLATE)


def tool(name: str, properties: dict, required: list[str] | None = None, **more: object) -> dict:
    parameters = {"type": "object", "properties": properties, **more}
    parameters["required"] = list(properties) if required is None else required
    return {"type": "function", "function": {"name": name, "description": "…", "parameters": parameters}}


TEXT = {"type": "string"}
REFUND = tool("refund_order", {"order_id": TEXT, "amount": {"type": "number"}})
TICKET = tool(
    "create_ticket",
    {
        "user_id": TEXT,
        "subject": TEXT,
        "priority": {"type": "string", "enum": ["low", "normal", "high"], "default": "normal"},
    },
    required=["user_id", "subject"],
)


@pytest.fixture
def tools() -> list[dict]:
    return json.loads(json.dumps([REFUND, TICKET]))
