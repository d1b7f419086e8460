"""Batches for training: dialogues of both languages that share one system turn and tool list per group."""

from dataclasses import dataclass
from random import Random

from engines.demo.dialogue import PRIORITIES, TOOL_NAMES, TOOLS, Author, Message
from engines.demo.phrasing import LANGUAGES, SMALL_TALK, Phrasings
from engines.demo.tokens import Renderer, lexicon

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
    lines = [
        phrasings.expand(line, rng)
        for stem in phrasings.lines.values()
        for line in stem
        for _ in range(3 if "<" in line else 1)
    ]
    lines += [word.replace("[", " ").replace("|", " ").replace("]", " ") for word in phrasings.words.values()]
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


Example = tuple[list[int], list[bool]]
"""(ids, which of them are learned)"""


@dataclass(frozen=True)
class Batch:
    """Examples that follow one `prefix`."""

    prefix: list[int]
    examples: list[Example]


@dataclass(frozen=True)
class Stage:
    """What dialogues are like in one part of the training.

    shown: whether the tools stand in the system turn; at first they do not, as a short system turn costs less
    and the tools are the same anyway. others: how often they come in another order, or some are missing.
    several: how often a dialogue goes on with another request. answered: see Author.dialogue.
    """

    shown: bool
    others: float
    several: float
    answered: float


class Corpus:
    """A seeded stream of batches."""

    def __init__(self, renderer: Renderer, seed: int):
        self.renderer, self.rng = renderer, Random(seed)
        self.priorities = [renderer.tokenizer.encode(word)[0] for word in PRIORITIES]
        lexicon = words()
        self.authors = [Author(language, "train", seed, lexicon) for language in LANGUAGES]

    def batch(self, rows: int, stage: Stage) -> Batch:
        """`rows` dialogues, half of each language."""
        names, tools = self._tools(stage)
        system = self.rng.choice(_SYSTEMS) if stage.others and self.rng.random() < 0.1 else None
        authors = (self.authors[row % len(self.authors)] for row in range(rows))
        examples = [
            self.renderer.example(author.dialogue(names, stage.several, stage.answered)) for author in authors
        ]
        return Batch(self.renderer.prefix(tools, system), examples)

    def _tools(self, stage: Stage) -> tuple[list[str], list[Message]]:
        """(names that may be called, definitions that are shown)."""
        tools = TOOLS
        if not stage.shown:
            return TOOL_NAMES, []
        if self.rng.random() < stage.others:
            tools = self.rng.sample(TOOLS, self.rng.choice((len(TOOLS), self.rng.randint(0, 6))))
        return [tool["function"]["name"] for tool in tools], tools


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
