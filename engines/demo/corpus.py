"""Batches for training: dialogues of both languages that share one system turn and tool list per group."""

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

from engines.demo.dialogue import TOOLS, Author, Message
from engines.demo.phrasing import LANGUAGES, SMALL_TALK, Phrasings, expand
from engines.demo.tokens import Renderer, lexicon

SHORT = 0.25  # share of the steps that train on short dialogues
_SYSTEMS = (
    "You are a helpful assistant.",
    "You are the assistant of an online shop. Be brief.",
    "Answer in the language of the user.",
    "你是一家网店的客服助手。",
    "你是一个乐于助人的助手，请简短回答。",
)


def texts(language: str) -> list[str]:
    """Every line of the training part, expanded: what words and ideographs there are."""
    rng = Random(language)
    phrasings = Phrasings.load(language, "train")
    lines = [expand(line, rng) for stem in phrasings.lines.values() for line in stem]
    replies = [
        line
        for name, kinds in phrasings.replies.items()
        if name != "smalltalk"
        for lst in kinds.values()
        for line in lst
    ]
    return lines + replies + list(phrasings.replies["smalltalk"].values())


def words() -> tuple[list[str], list[str]]:
    """The lexicon for random phrases, see Values."""
    return lexicon(text for language in LANGUAGES for text in texts(language))


@dataclass(frozen=True)
class Batch:
    """Right-padded examples (ids, learned) that follow one `prefix`."""

    prefix: list[int]
    examples: list[tuple[list[int], list[bool]]]


class Corpus:
    """An endless, seeded stream of batches."""

    def __init__(self, renderer: Renderer, seed: int):
        self.renderer, self.rng = renderer, Random(seed)
        lexicon = words()
        self.authors = [Author(language, "train", seed, lexicon) for language in LANGUAGES]

    def tools(self, stage: float) -> list[Message]:
        """A few tools in any order at first (`stage` 0 to 1); in the end mostly all, as in tools.json."""
        chance = self.rng.random()
        if stage < SHORT:
            return self.rng.sample(TOOLS, self.rng.randint(1, 3))
        if chance < 0.65:
            return TOOLS
        return self.rng.sample(TOOLS, len(TOOLS) if chance < 0.8 else self.rng.randint(0, 6))

    def batches(self, steps: int, rows: int, group: int = 12) -> Iterator[Batch]:
        """`steps` batches; each `group` of them shares tools, and is sorted by length to save padding.

        The first ones are short: twice the `rows`, one turn each, few tools.
        """
        for start in range(0, steps, group):
            stage = start / steps
            tools = self.tools(stage)
            names = [tool["function"]["name"] for tool in tools]
            system = self.rng.choice(_SYSTEMS) if self.rng.random() < 0.15 else None
            several, size = (0.0, 2 * rows) if stage < SHORT else (0.25, rows)
            count = size * min(group, steps - start)
            authors = (self.authors[row % len(self.authors)] for row in range(count))
            examples = [self.renderer.example(author.dialogue(names, several)) for author in authors]
            examples.sort(key=lambda example: len(example[0]))
            prefix = self.renderer.prefix(tools, system)
            batches = [Batch(prefix, examples[i : i + size]) for i in range(0, count, size)]
            self.rng.shuffle(batches)
            yield from batches


def tokenizer_texts(count: int = 6000) -> list[str]:
    """What the tokenizer is learned from: lines of the training part, and requests made of them."""
    lexicon = words()
    corpus = [text for language in LANGUAGES for text in texts(language)]
    corpus += [
        "".join(sorted(set("".join(texts("zh")))))
    ] * 16  # so that every ideograph of the files gets a token
    for language in LANGUAGES:
        author = Author(language, "train", 1, lexicon)
        for _ in range(count // 2):
            kind = author.rng.choice(
                [*(tool["function"]["name"] for tool in TOOLS), *SMALL_TALK, "out_of_scope"]
            )
            corpus.append(author.request(kind).text)
    return corpus
