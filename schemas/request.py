"""What a producer puts on a request topic."""

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from schemas.message import Message, ToolChoice, ToolSchema
from schemas.payload import Payload
from schemas.strict import Strict


class Sampling(Strict):
    """How the next token is chosen. The default is greedy."""

    temperature: float = Field(default=0.0, ge=0.0, le=5.0, description="0 is greedy.")
    top_k: int = Field(default=0, ge=0, description="Keep the k likeliest tokens; 0 keeps all.")
    top_p: float = Field(
        default=1.0, gt=0.0, le=1.0, description="Keep the likeliest tokens up to this mass."
    )
    min_p: float = Field(
        default=0.0, ge=0.0, le=1.0, description="Keep tokens at least this likely, relative to the best."
    )
    repetition_penalty: float = Field(
        default=1.0, ge=0.5, le=2.0, description="Above 1, tokens of the context become less likely."
    )
    seed: int | None = Field(default=None, ge=0, lt=2**63, description="Same seed, same tokens.")


class JsonSchema(Strict):
    name: str = "value"
    # `schema` is what OpenAI calls it on the wire; as an attribute it would shadow pydantic's own.
    schema_: dict[str, Any] = Field(alias="schema")
    strict: bool | None = None
    description: str | None = None


class TextFormat(Strict):
    type: Literal["text"]


class JsonObjectFormat(Strict):
    type: Literal["json_object"]


class JsonSchemaFormat(Strict):
    type: Literal["json_schema"]
    json_schema: JsonSchema


class RegexFormat(Strict):
    type: Literal["regex"]
    regex: str = Field(min_length=1, max_length=10_000)


class ChoiceFormat(Strict):
    type: Literal["choice"]
    choice: list[str] = Field(min_length=1, max_length=1_000)


ResponseFormat = Annotated[
    TextFormat | JsonObjectFormat | JsonSchemaFormat | RegexFormat | ChoiceFormat, Field(discriminator="type")
]


class Request(Strict):
    """One request: `messages`, or the short form `query` (with `user_id` and `history`), or `texts`.

    A `payload` follows the query's text, or stands alone.
    """

    id: str | None = Field(
        default=None,
        min_length=1,
        max_length=256,
        description="Chosen by the caller, repeated in the reply. Left out: the `correlation-id` header, "
        "else `topic/partition/offset`.",
    )
    task: str = Field(
        default="chat",
        description="`chat`, `classify`, `embed`, `extract`, `summarize` or a registered task.",
    )
    messages: list[Message] | None = Field(default=None, min_length=1)
    user_id: str | None = Field(default=None, max_length=256, description="On whose behalf the request runs.")
    query: str | None = Field(default=None, min_length=1)
    history: list[Message] = Field(default=[], description="Earlier turns, oldest first; only with `query`.")
    texts: list[Annotated[str, Field(min_length=1)]] | None = Field(
        default=None,
        min_length=1,
        max_length=10_000,
        description="For `classify` and `embed`: several texts, each on its own. `structured` then has a "
        "verdict or a vector for each, in order.",
    )
    payload: Payload | None = None
    tools: list[str | ToolSchema] | None = Field(
        default=None,
        description="Names of server tools, or schemas of tools that the caller runs itself. "
        "Left out: every server tool; empty: none.",
    )
    tool_choice: ToolChoice = "auto"
    parallel_tool_calls: bool | None = Field(
        default=None,
        description="Whether the model may make several calls in one turn. Left out: if it was trained to.",
    )
    response_format: ResponseFormat | None = None
    labels: list[str] | None = Field(
        default=None, min_length=1, max_length=1_000, description="For `classify`."
    )
    normalize: bool = Field(default=True, description="For `embed`: scale vectors to length 1.")
    memory: bool | None = Field(
        default=None,
        description="For `chat`: put what the conversation, which the record's key names, said before in "
        "front of this request, and remember it and its answer. Left out: as the daemon's `memory.use` says.",
    )
    model: str | None = Field(default=None, description="Name of an engine; left out: the default one.")
    sampling: Sampling = Sampling()
    max_tokens: int | None = Field(default=None, ge=1, description="Bound on generated tokens, all rounds.")
    stream: bool = Field(default=False, description="Publish numbered deltas before the reply.")

    @model_validator(mode="after")
    def _one_form(self) -> "Request":
        given = sum(form is not None for form in (self.messages, self.query, self.texts))
        if given > 1 or (given == 0 and self.payload is None):
            raise ValueError("give either `messages` or `query` (or `texts`, or a `payload` alone)")
        if self.history and (self.messages is not None or self.texts is not None):
            raise ValueError("`history` goes with `query`; with `messages` put earlier turns there")
        if self.payload is not None and (self.messages is not None or self.texts is not None):
            raise ValueError("`payload` goes with `query` or alone; put its text into the messages instead")
        return self

    def conversation(self) -> list[Message]:
        """The turns in order, whichever form the request came in; without the payload, without `texts`."""
        if self.messages is not None:
            return list(self.messages)
        return [*self.history, Message(role="user", content=self.query or "")]
