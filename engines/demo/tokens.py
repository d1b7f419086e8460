"""The bundled model's tokenizer: byte-level BPE in which a value has the same tokens wherever it stands.

Words, spaces, digits, capitals, punctuation and ideographs are pieces of their own, so no token crosses
from JSON punctuation into a value, and copying a value means copying tokens one by one.
"""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import Regex, decoders, models, pre_tokenizers, trainers

from engines.demo.dialogue import Dialogue, Message
from engines.tokenizer import Tokenizer

# In the order of GLM-4's tokenizer_config.json.
SPECIAL_TOKENS = (
    "<|endoftext|>",
    "[MASK]",
    "[gMASK]",
    "[sMASK]",
    "<sop>",
    "<eop>",
    "<|system|>",
    "<|user|>",
    "<|assistant|>",
    "<|observation|>",
)
END_TOKENS = ("<|endoftext|>", "<|user|>", "<|observation|>")
# tokenizer_config.json. The model writes every argument, also those that have a default.
CONFIG: dict[str, Any] = {
    "tokenizer_class": "PreTrainedTokenizerFast",
    "eos_token": END_TOKENS[0],
    "pad_token": END_TOKENS[0],
    "additional_special_tokens": list(SPECIAL_TOKENS),
    "clean_up_tokenization_spaces": False,
    "tool_format": "glm4",
    "write_defaults": True,
}
TEMPLATE = Path(__file__).parent / "chat_template.jinja"
PIECES = r"[A-Z]?[a-z]+|[\s\S]"


def train(texts: Iterable[str], vocab_size: int) -> tokenizers.Tokenizer:
    """Learn merges from the texts; all 256 bytes and the special tokens are always in the vocabulary."""
    tokenizer = tokenizers.Tokenizer(models.BPE())
    split = pre_tokenizers.Split(Regex(PIECES), behavior="isolated")
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, byte_level])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def lexicon(texts: Iterable[str]) -> tuple[list[str], list[str]]:
    """(words of Latin letters, ideographs) of the texts, sorted.

    A fifth as many ideographs come from all of the common block: unseen ones are copied byte by byte.
    """
    words: set[str] = set()
    ideographs: set[str] = set()
    for text in texts:
        words.update(word.lower() for word in re.findall(r"[A-Za-z]{2,12}", text))
        ideographs.update(re.findall(r"[\u4e00-\u9fff]", text))
    rare = [chr(code) for code in range(0x4E00, 0x9FA5, max(1, 0x51A5 // (len(ideographs) // 5 + 1)))]
    return sorted(words), sorted(ideographs) + rare


class Renderer:
    """Conversations to token ids, by the tokenizer and the template that serve at run time."""

    def __init__(self, tokenizer: tokenizers.Tokenizer):
        self.tokenizer = Tokenizer(tokenizer.to_str(), CONFIG, TEMPLATE.read_text("utf-8"))
        self.assistant = self.tokenizer.added_tokens["<|assistant|>"]
        self.opening = len(self.prefix([]))
        self.ends = {self.tokenizer.added_tokens[token] for token in END_TOKENS}

    def ids(self, messages: list[Message], tools: list[Message], prompt: bool = False) -> list[int]:
        """The whole conversation; `prompt` lets the assistant go on."""
        return self.tokenizer.render(messages, tools, add_generation_prompt=prompt)

    def prefix(self, tools: list[Message], system: str | None = None) -> list[int]:
        """The system turn, which all dialogues with these tools share."""
        return self.ids([{"role": "system", "content": system}] if system else [], tools)

    def example(self, dialogue: Dialogue) -> tuple[list[int], list[bool]]:
        """(ids after the system turn, True where the id is to be predicted): the assistant's own tokens,
        with the special token that ends each of its turns."""
        follows = "observation" if dialogue.messages[-1].get("metadata") else "user"
        ids = self.ids([*dialogue.messages, {"role": follows, "content": ""}], [])
        ids = ids[self.opening : -1]  # ends with the role that follows, without its newline
        learned: list[bool] = []
        turn, inside = -1, False
        for token in ids:
            learned.append(inside and dialogue.learned[turn])
            if token == self.assistant:
                turn, inside = turn + 1, True
            elif token in self.ends:
                inside = False
        return ids, learned
