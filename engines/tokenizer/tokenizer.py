"""Text to token ids and back, and conversations to prompts."""

import json
from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import tokenizers

from engines.tokenizer.config import FILE_NAME, TokenizerConfig
from engines.tokenizer.errors import TemplateMissing, TokenizerMissing
from engines.tokenizer.formats import choose
from engines.tokenizer.identity import IdentityCache
from engines.tokenizer.shield import Shield
from engines.tokenizer.stream import TextStream
from engines.tokenizer.template import Template
from engines.tokenizer.turn import Turn
from engines.tokenizer.vocabulary import token_bytes

_CACHED_CHARACTERS = 20_000


class Tokenizer:
    """A checkpoint's vocabulary, chat template and tool-call format.

    `definition` is the text of tokenizer.json (also what llguidance wants), `config` the object of
    tokenizer_config.json, `template` the text of chat_template.jinja. Raises TokenizerMissing,
    TemplateBroken.

    `tool_format` in `config` names the format; without it template and vocabulary tell (formats.choose).
    """

    def __init__(
        self, definition: str, config: dict[str, Any] | None = None, template: str | None = None
    ) -> None:
        parsed_config = TokenizerConfig.parse({} if config is None else config)
        try:
            parsed = json.loads(definition)
            if parsed.get("truncation") or parsed.get("padding"):  # as training left them: prompts are whole
                parsed |= {"truncation": None, "padding": None}
                definition = json.dumps(parsed)
            self.definition = definition
            whole = tokenizers.Tokenizer.from_str(definition)
            # Added tokens are matched in any text. A second tokenizer that has never heard of them is the
            # only one that outside text ever meets.
            self._plain = tokenizers.Tokenizer.from_str(json.dumps(_without_added_tokens(parsed)))
        except Exception as error:  # tokenizers raises bare Exception
            raise TokenizerMissing(f"tokenizer.json cannot be read: {error}") from error
        vocabulary = whole.get_vocab(with_added_tokens=True)
        added = whole.get_added_tokens_decoder()
        self.vocab_size = max(vocabulary.values(), default=-1) + 1
        self.added_tokens: dict[str, int] = {token.content: index for index, token in added.items()}
        self.special_ids = frozenset(index for index, token in added.items() if token.special)
        self._bytes = token_bytes(
            parsed, vocabulary, {index: token.content for index, token in added.items()}
        )
        self._shield = Shield(self.added_tokens)
        # Formats look for marks in angle brackets only; the brackets of others, such as [gMASK], are JSON's.
        self._marks = Shield([literal for literal in self.added_tokens if literal.startswith("<")])
        self._literals = {index: literal for literal, index in self.added_tokens.items()}
        self._raised_tools = IdentityCache[list[Any]](self._shield.raise_)
        self._encode = lru_cache(maxsize=256)(self._encode_uncached)
        self._named_tokens = parsed_config.named_tokens
        source = _source(parsed_config, template)
        self.template = Template(source) if source is not None else None
        self.format = choose(parsed_config, self.added_tokens, self.template)

    @classmethod
    def load(cls, folder: Path) -> "Tokenizer":
        """From a checkpoint or engine folder. Raises TokenizerMissing for files that are not usable."""
        definition = _text(folder / "tokenizer.json")
        if definition is None:
            raise TokenizerMissing(
                f"{folder} has no tokenizer.json; take the checkpoint's, or pass token ids instead of text."
            )
        return cls(definition, _json(folder / FILE_NAME), _text(folder / "chat_template.jinja"))

    @staticmethod
    def has_template(folder: Path) -> bool:
        """Whether a checkpoint or engine says how conversations are written. Raises TokenizerMissing."""
        config = TokenizerConfig.parse(_json(folder / FILE_NAME) or {})
        return _source(config, _text(folder / "chat_template.jinja")) is not None

    def token_id(self, literal: str) -> int | None:
        """Id of an added token such as `<|user|>`; None when there is none."""
        return self.added_tokens.get(literal)

    def encode(self, text: str) -> list[int]:
        """Ids of plain text: literals of special tokens in it are spelled out, never special ids."""
        return list(self._encode_uncached(text))

    def decode(self, ids: Iterable[int], *, special: bool = False) -> str:
        """Text of `ids`; special tokens are left out unless `special`. Broken UTF-8 becomes U+FFFD."""
        stream = self.stream(special=special)
        return stream.push(ids) + stream.finish()

    def stream(self, *, special: bool = False) -> TextStream:
        """An incremental decoder for one generation; special tokens are left out unless `special`."""
        if special:
            return TextStream(self.bytes_of)
        hidden = self.special_ids
        return TextStream(lambda index: b"" if index in hidden else self.bytes_of(index))

    def turn(self, *, calls: bool = True) -> Turn:
        """A reader for what the model writes after a prompt of `render`; without `calls` it is an answer."""
        return Turn(self.format, self._marks, self.bytes_of, self._literals, calls)

    def bytes_of(self, index: int) -> bytes:
        """The bytes of one token; empty for the padding ids that a model may have beyond the vocabulary."""
        return self._bytes[index] if 0 <= index < len(self._bytes) else b""

    def render(
        self,
        messages: Sequence[dict[str, Any]],
        tools: Sequence[dict[str, Any]] | None = None,
        add_generation_prompt: bool = True,
    ) -> list[int]:
        """Prompt of a conversation in OpenAI form, with OpenAI function schemas as `tools`.

        Only the template's own text yields special tokens. The schemas must not be changed afterwards: what
        is made of them is kept for the next prompt. Raises TemplateMissing, MessagesRefused.
        """
        ids: list[int] = []
        for is_literal, text in self._shield.split(self._rendered(messages, tools, add_generation_prompt)):
            if is_literal:
                ids.append(self.added_tokens[text])
            else:
                # System prompt and tool list are the same most of the time; long texts never are.
                encode = self._encode if len(text) <= _CACHED_CHARACTERS else self._encode_uncached
                ids.extend(encode(text))
        return ids

    def answer(self, text: str) -> list[int]:
        """What the model writes after a prompt of `render` to answer `text`, with the token that ends it."""
        end = self.format.answer_end
        return [*self._encode(self.format.answer_lead + text), *([] if end is None else [end])]

    def render_text(
        self,
        messages: Sequence[dict[str, Any]],
        tools: Sequence[dict[str, Any]] | None = None,
        add_generation_prompt: bool = True,
    ) -> str:
        """The same prompt as text, to look at; encoding it would not be safe."""
        return self._shield.lower(self._rendered(messages, tools, add_generation_prompt))

    def _rendered(
        self, messages: Sequence[dict[str, Any]], tools: Sequence[dict[str, Any]] | None, prompt: bool
    ) -> str:
        if self.template is None:
            raise TemplateMissing
        shown = list(tools) if tools else None
        adapted = self.format.adapt(messages, shown, self.template)
        return self.template.render(
            messages=self._shield.raise_(adapted),
            tools=self._raised_tools(shown) if shown else None,
            add_generation_prompt=prompt,
            # GLM-4.5 and later think aloud unless told not to; a reply has no room for thoughts.
            enable_thinking=False,
            **self._named_tokens,
        )

    def _encode_uncached(self, text: str) -> tuple[int, ...]:
        # Half a surrogate pair is legal in JSON and in Python strings, but not in UTF-8.
        clean = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        return tuple(self._plain.encode(clean, add_special_tokens=False).ids)


def _without_added_tokens(parsed: dict[str, Any]) -> dict[str, Any]:
    plain = {**parsed, "added_tokens": [], "post_processor": None}
    model = parsed.get("model", {})
    if isinstance(vocabulary := model.get("vocab"), dict):
        added = {token["content"] for token in parsed.get("added_tokens", [])} - {model.get("unk_token")}
        kept = {piece: index for piece, index in vocabulary.items() if piece not in added}
        plain["model"] = {**model, "vocab": kept}
    return plain


def _source(config: TokenizerConfig, template: str | None) -> str | None:
    """A template of its own goes before the one in tokenizer_config.json."""
    return config.template if template is None else template


def _text(path: Path) -> str | None:
    """None when there is no such file. Raises TokenizerMissing when it cannot be read."""
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise TokenizerMissing(f"{path} cannot be read: {error}; take the checkpoint's.") from error


def _json(path: Path) -> Any:
    """As _text."""
    text = _text(path)
    try:
        return None if text is None else json.loads(text)
    except ValueError as error:
        raise TokenizerMissing(f"{path} is no JSON: {error}; take the checkpoint's.") from error
