"""How GLM families write tool calls and answers."""

from collections.abc import Mapping

from engines.tokenizer.config import FILE_NAME, TokenizerConfig
from engines.tokenizer.errors import TokenizerMissing
from engines.tokenizer.formats.chatglm3 import ChatGlm3
from engines.tokenizer.formats.format import Answer, Call, Format, Output
from engines.tokenizer.formats.glm4 import Glm4
from engines.tokenizer.formats.glm45 import Glm45
from engines.tokenizer.formats.glm47 import Glm47
from engines.tokenizer.formats.shape import Shape
from engines.tokenizer.template import Template

__all__ = ["FORMATS", "Answer", "Call", "Format", "Output", "Shape", "choose"]

FORMATS: dict[str, type[Format]] = {kind.name: kind for kind in (Glm4, Glm45, Glm47, ChatGlm3)}


def choose(config: TokenizerConfig, added_tokens: Mapping[str, int], template: Template | None) -> Format:
    """The format of a checkpoint: what tokenizer_config.json names (`tool_format`, `write_defaults`), else
    what the template shows or the special tokens betray, else GLM-4's. Raises TokenizerMissing."""
    name = config.tool_format
    if name is not None and name not in FORMATS:
        raise TokenizerMissing(f"{FILE_NAME}: `tool_format` {name!r} is none of {', '.join(FORMATS)}.")
    kind = FORMATS[name] if name else _recognized(added_tokens, template)
    return kind(added_tokens, write_defaults=config.write_defaults)


def _recognized(added_tokens: Mapping[str, int], template: Template | None) -> type[Format]:
    source = template.source if template else ""
    if "<arg_key>" in source or "<arg_key>" in added_tokens:
        # The templates show the model the form of a call.
        return Glm47 if "{function-name}<arg_key>" in source else Glm45
    if "tool_call(" in source or ("sop" in added_tokens and "<sop>" not in added_tokens):
        return ChatGlm3
    return Glm4
