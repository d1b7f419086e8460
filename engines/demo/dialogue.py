"""Dialogues made from phrasings: requests, calls, results, final sentences, with history and failures."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

from engines.demo.phrasing import SLOT, SMALL_TALK, Part, Phrasings, fill
from engines.demo.results import Results
from engines.demo.synonyms import Synonyms
from engines.demo.values import DETERMINED, Values

Message = dict[str, Any]
TOOLS: list[dict[str, Any]] = json.loads((Path(__file__).parent / "tools.json").read_text("utf-8"))
TOOL_NAMES = [tool["function"]["name"] for tool in TOOLS]
PRIORITIES = ("low", "normal", "high")
# How often the tools are asked for, beside one another: those whose arguments are harder to find more often.
SHARES = {"create_ticket": 4, "service_status": 4, "search_knowledge": 3}


class _Phrased(NamedTuple):
    """A slot that phrases stand in: in which kind of request, where they come from, words of random ones."""

    kind: str
    stem: str
    longest: int


_PHRASED = {
    "subject": _Phrased("create_ticket", "subjects", 6),
    "query": _Phrased("search_knowledge", "queries", 6),
    "service": _Phrased("service_status", "services", 2),
}
_SENTENCES = ("articles", "articles", "articles", "out_of_scope", "queries", "subjects", "prefix", "suffix")
_WORD = re.compile(r"(?<![{\w])[a-z]+(?![}\w])|[\u4e00-\u9fff]")


@dataclass(frozen=True)
class Request:
    """One thing a user wants: the text, and the call (arguments in schema order, as JSON text) or None."""

    language: str
    kind: str  # a tool's name, a kind of small talk or "out_of_scope"
    text: str
    arguments: dict[str, str] = field(default_factory=dict)

    @property
    def is_call(self) -> bool:
        return self.kind in TOOL_NAMES

    @property
    def arguments_json(self) -> str:
        """The canonical form the grammar allows: schema order, `, ` and `: `, amounts as numbers."""
        pairs = (
            f'"{name}": {value}' if name == "amount" else f'"{name}": {json.dumps(value, ensure_ascii=False)}'
            for name, value in self.arguments.items()
        )
        return "{" + ", ".join(pairs) + "}"


@dataclass
class Dialogue:
    """Messages in GLM-4's form; `learned[i]` says whether assistant message i counts in the loss."""

    messages: list[Message] = field(default_factory=list)
    learned: list[bool] = field(default_factory=list)

    def say(self, content: str, metadata: str = "", learned: bool = True) -> None:
        self.messages.append({"role": "assistant", "metadata": metadata, "content": content})
        self.learned.append(learned)


class Author:
    """Writes requests and dialogues of one language.

    `words` are (spaced, unspaced) words for random phrases, see Values. Deterministic in `seed`.
    """

    def __init__(
        self,
        language: str,
        part: Part,
        seed: int,
        words: tuple[Sequence[str], Sequence[str]],
        noise: float = 1.0,
    ):
        self.phrasings = Phrasings.load(language, part)
        self.language, self.noise = language, noise
        self.synonyms = Synonyms.load(language) if part == "train" else None
        self.rng = Random(f"{seed} {language} {part}")
        self.values = Values(self.rng, words, spaced_language=language == "en")
        self._phrases = {
            slot: Values(self.rng, self._unused(of.kind, words), spaced_language=language == "en")
            for slot, of in _PHRASED.items()
        }
        spaced = "(?:^| )" if language == "en" else ""
        self._head = re.compile(f"{spaced}(?:{self.phrasings.words['head']})$", re.IGNORECASE)
        lines = self.phrasings.lines
        sentences = [line for stem in _SENTENCES for line in lines[stem] if not SLOT.search(line)]
        self.results = Results(self.rng, self.values, lambda: self._sentence(sentences))

    def request(self, kind: str, template: str | None = None, priority: str | None = None) -> Request:
        """A request of this kind from a template, or from any of its file; tickets have one a priority."""
        rng, lines = self.rng, self.phrasings.lines
        priority = priority or rng.choice(PRIORITIES)
        if template is None:
            template = rng.choice(lines[f"create_ticket.{priority}" if kind == "create_ticket" else kind])
        body = self.phrasings.expand(template, rng)
        if self.synonyms and kind not in SMALL_TALK and rng.random() < 0.5 * self.noise:
            body = self.synonyms.vary(body, rng, 0.25)
        body = self._styled(body)
        written, arguments = self._draw(kind, body)
        if kind == "create_ticket":
            arguments["priority"] = priority
        text = fill(body, {s: self._spaced(self._quoted(body, s, value)) for s, value in written.items()})
        text = self._surround(kind, text, ends_open=body.endswith("}"))
        return Request(self.language, kind, text, arguments)

    def _sentence(self, templates: Sequence[str]) -> str:
        """What a help article may say: half the time with words of no sense in it, or it would be learned by
        heart instead of copied."""
        rng = self.rng
        sentence = self.phrasings.expand(rng.choice(templates), rng)
        if rng.random() < 0.5:
            share = rng.choice((0.15, 0.4))
            sentence = _WORD.sub(lambda m: self.values.word(m[0]) if rng.random() < share else m[0], sentence)
        return sentence

    def held(self, kind: str) -> list[tuple[str, str]]:
        """All (file stem, template) pairs of a kind: create_ticket has one file per priority."""
        stems = [f"create_ticket.{p}" for p in PRIORITIES] if kind == "create_ticket" else [kind]
        return [(stem, line) for stem in stems for line in self.phrasings.lines[stem]]

    def _draw(self, kind: str, body: str) -> tuple[dict[str, str], dict[str, str]]:
        """Values as written in the text, and as arguments in schema order."""
        written, arguments = {}, {}
        order = {"create_ticket": ("user_id", "subject")}.get(kind, ("user_id", "order_id", "ticket_id"))
        slots = sorted(SLOT.findall(body), key=lambda slot: order.index(slot) if slot in order else 9)
        for slot in slots:
            if slot == "amount":
                written[slot], arguments[slot] = self.values.amount()
            elif slot in _PHRASED:
                written[slot] = arguments[slot] = self._phrase(slot, body)
            else:
                written[slot] = arguments[slot] = self.values.identifier(slot)
        return written, arguments

    def _phrase(self, slot: str, body: str) -> str:
        """A value of which a reader of the request can tell where it begins and ends."""
        of = _PHRASED[slot]
        determined = bool(DETERMINED.search(body[: body.index(f"{{{slot}}}")]))
        while True:
            lines = self.rng.sample(self.phrasings.lines[of.stem], 2)
            likely = [self.phrasings.expand(line, self.rng) for line in lines]
            phrase = self._phrases[slot].phrase(likely, of.longest, determined)
            # "is the mail server up" is about "mail": `{service} server` is a phrasing.
            if slot != "service" or not self._head.search(phrase):
                return phrase

    def _unused(self, kind: str, words: tuple[Sequence[str], Sequence[str]]) -> tuple[list[str], list[str]]:
        """Those of the words that no phrasing of this kind consists of."""
        rng, lines = Random(kind), [line for _, line in self.held(kind)]
        text = " ".join(lines + [self.phrasings.expand(line, rng) for line in lines])
        used = set(_WORD.findall(text.lower()))
        spaced, unspaced = ([word for word in some if word not in used] for some in words)
        return spaced, unspaced

    def _styled(self, body: str) -> str:
        """Sentences begin with capitals, or nothing does; now and then a word is mistyped. Slots stay."""
        rng, chance = self.rng, self.rng.random()
        if chance < 0.4 * self.noise:
            body = re.sub(r"(?:^|[.?!:] )[a-z]", lambda match: match[0].upper(), body)
        elif chance < 0.55 * self.noise:
            body = body.lower()  # slot names are lower case already
        words = [match for match in _WORD.finditer(body) if len(match[0]) > 3 or not match[0].isascii()]
        if words and rng.random() < 0.1 * self.noise:
            at = rng.randrange(*rng.choice(words).span())
            body = body[:at] + rng.choice(("", body[at] * 2)) + body[at + 1 :] or body
        return body

    def _quoted(self, body: str, slot: str, value: str) -> str:
        """A phrase that the template leaves bare, in quotes a tenth of the time; they are no part of it."""
        quoted = any(f"{mark}{{{slot}}}" in body for mark in "\"'“「")
        if slot not in _PHRASED or quoted or self.rng.random() >= 0.1 * self.noise:
            return value
        return self.rng.choice(('"{}"', "'{}'", "“{}”")).format(value)

    def _spaced(self, value: str) -> str:
        """Chinese writers put spaces around Latin ids, or not; the template shows one of both."""
        if self.language == "zh" and value.isascii() and self.rng.random() < 0.2 * self.noise:
            return f" {value} "
        return value

    def _surround(self, kind: str, text: str, ends_open: bool) -> str:
        """Put harmless sentences before and after; never run them into a value that ends the text."""
        rng, lines, noise = self.rng, self.phrasings.lines, self.noise
        gap = " " if self.language == "en" else ""
        if kind in SMALL_TALK and rng.random() < 0.8:
            return text
        if rng.random() < 0.3 * noise:
            lead = self.phrasings.expand(rng.choice(lines["prefix"]), rng)
            if lead[-1].isalnum() and rng.random() < 0.8:
                lead += rng.choice((",", ".", ":")) if gap else rng.choice("，。")
            text = lead + (rng.choice(("\n", gap)) if rng.random() < 0.15 else gap) + text
        if rng.random() < 0.3 * noise:
            closing = self.phrasings.expand(rng.choice(lines["suffix"]), rng)
            opens = closing[0] in "，。,.!！?？；"
            if opens and not text[-1].isalnum() and not ends_open:
                closing = closing[1:].lstrip()
            elif not opens and (ends_open or text[-1].isalnum()):
                text += rng.choice((".", ",", "!", "\n")) if gap else rng.choice("。，,\n")
            text += gap + closing if text[-1] != "\n" else closing
        elif text[-1] in ".。！!?？" and rng.random() < 0.15 * noise and text[-2:] != "..":
            text = text[:-1]
        return text

    def answer(
        self,
        dialogue: Dialogue,
        request: Request,
        tools: Sequence[str],
        silent: bool = False,
        ended: bool = False,
    ) -> None:
        """Append the user's turn and everything the assistant does about it.

        `tools` are the names on offer: a call that needs another one is declined. `silent` leaves the call
        out, as histories made of text alone do; such an answer is shown but not learned. `ended`: nothing
        follows a call.
        """
        rng, replies = self.rng, self.phrasings.replies
        dialogue.messages.append({"role": "user", "content": request.text})
        if not request.is_call or request.kind not in tools:
            kind = request.kind if request.kind in SMALL_TALK else "out_of_scope"
            dialogue.say(replies["smalltalk"][kind])
            return
        if ended:
            dialogue.say(request.arguments_json, metadata=request.kind)
            return
        failed = rng.random() < 0.15
        draw = self.results.error if failed else self.results.draw
        line, result = draw(request.kind, request.arguments)
        if not silent:
            dialogue.say(request.arguments_json, metadata=request.kind)
            dialogue.messages.append({"role": "observation", "content": line})
        sentence = rng.choice(replies[request.kind]["error" if failed else "success"])
        dialogue.say(self._fill_reply(sentence, {**request.arguments, **result}), learned=not silent)

    @staticmethod
    def _fill_reply(sentence: str, result: dict[str, Any]) -> str:
        reply = fill(sentence, {key: str(value) for key, value in result.items()})
        return re.sub(r"([.。！!？?])[.。]$", r"\1", reply)

    def any_request(self, tools: Sequence[str] = TOOL_NAMES) -> Request:
        """A request as users send them: mostly for one of the tools, some small talk, some nothing can serve.

        A tenth of the calls needs a tool that is not on offer, if there is such a tool.
        """
        rng, chance = self.rng, self.rng.random()
        if chance < 0.68:
            absent = [name for name in TOOL_NAMES if name not in tools]
            names = absent if absent and (not tools or rng.random() < 0.1) else list(tools)
            return self.request(rng.choices(names, [SHARES.get(name, 1) for name in names])[0])
        return self.request(rng.choice(SMALL_TALK) if chance < 0.71 else "out_of_scope")

    def dialogue(
        self, tools: Sequence[str] = TOOL_NAMES, several: float = 0.35, answered: float = 1.0
    ) -> Dialogue:
        """One to four turns; with probability `several` more than one.

        `answered`: how often something follows the last call; results and the sentences about them are longer
        than requests and calls, and easier to learn.
        """
        rng, dialogue = self.rng, Dialogue()
        turns = 1 + (rng.random() < several) + (rng.random() < several / 2) + (rng.random() < several / 4)
        for turn in range(turns):
            last = turn == turns - 1
            silent = not last and rng.random() < 0.3
            ended = last and rng.random() >= answered
            self.answer(dialogue, self.any_request(tools), tools, silent, ended)
        return dialogue
