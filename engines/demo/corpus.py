"""Batches for training: dialogues of both languages that share one system turn and tool list per group."""

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

from engines.demo.dialogue import TOOLS, Author, Message
from engines.demo.phrasing import LANGUAGES, SMALL_TALK, Phrasings, expand
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


@dataclass(frozen=True)
class Course:
    """A stretch of training: `steps` batches of `rows` dialogues.

    rate, embedding_rate: the highest of Muon and AdamW; warm_up: steps until then.
    plain: share of the steps in which all tools are shown in their usual order, so that the model learns to
    call them before it learns that they may be missing. several: how often a dialogue goes on with another
    request, after the first three tenths.
    """

    steps: int
    rows: int
    rate: float
    embedding_rate: float
    weight_decay: float
    warm_up: int
    plain: float
    several: float


class Corpus:
    """A seeded stream of batches."""

    def __init__(self, renderer: Renderer, seed: int):
        self.renderer, self.rng = renderer, Random(seed)
        lexicon = words()
        self.authors = [Author(language, "train", seed, lexicon) for language in LANGUAGES]

    def tools(self) -> list[Message]:
        """Mostly all, as in tools.json; now and then in another order, or only some of them."""
        if self.rng.random() >= 0.35:
            return TOOLS
        chance = self.rng.random()
        if chance < 0.6:
            return TOOLS
        if chance < 0.75:
            return self.rng.sample(TOOLS, len(TOOLS))
        return self.rng.sample(TOOLS, self.rng.randint(0, 6))

    def batches(self, course: Course, group: int = 12) -> Iterator[Batch]:
        """Each `group` of batches shares tools and system turn, and is sorted by length to save padding."""
        for start in range(0, course.steps, group):
            stage = start / course.steps
            tools = TOOLS if stage < course.plain else self.tools()
            names = [tool["function"]["name"] for tool in tools]
            several = 0.0 if stage < 0.3 else course.several
            count = course.rows * min(group, course.steps - start)
            authors = (self.authors[row % len(self.authors)] for row in range(count))
            examples = [self.renderer.example(author.dialogue(names, several)) for author in authors]
            examples.sort(key=lambda example: len(example[0]))
            other = stage >= course.plain and self.rng.random() <= 0.1
            prefix = self.renderer.prefix(tools, self.rng.choice(_SYSTEMS) if other else None)
            batches = [Batch(prefix, examples[i : i + course.rows]) for i in range(0, count, course.rows)]
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
