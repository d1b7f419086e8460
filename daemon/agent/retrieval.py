"""Which tools to show the model when there are more than its prompt has room for.

BM25 (Robertson and Zaragoza, "The Probabilistic Relevance Framework: BM25 and Beyond", 2009) over names,
which count twice, descriptions, parameters with the values they may have, and the keywords that a tool
declares: only these bridge a request in one language and a description in another. Names are split at `_`,
`-`, `.` and capitals. Text in scripts without spaces, such as Chinese, and Korean, whose words take endings,
counts by characters and pairs of them, as in Lucene's CJKAnalyzer; an id such as A1001 or ord-7 counts by its
letters, too, as one of their kind. Characters are compared in Unicode's form NFKC, without regard to case.
"""

import json
import math
import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from typing import Any

from daemon.agent.toolset import Toolset
from daemon.tools.tool import Tool
from engines.tokenizer.identity import IdentityCache

_K = 1.2
_B = 0.3  # declared keywords make a tool's text long, and are no reason to find it less
_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
# Thai and Lao, Burmese, Khmer, kana, Chinese, Korean.
_SCRIPTS = (
    r"\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7a3\U00020000-\U0003ffff"
)
_TERM = re.compile(rf"([{_SCRIPTS}]+)|\d+|[^\W\d_{_SCRIPTS}]+")
_ID = re.compile(r"([a-z]+)[-_]?[0-9]+")
_SUFFIXES = ("ing", "ed", "es", "s", "e")


def terms(text: str) -> list[str]:
    """Words without their commonest endings, numbers, single characters and pairs of them, kinds of ids."""
    found = list[str]()
    text = unicodedata.normalize("NFKC", text)
    for match in _TERM.finditer(_HUMP.sub(" ", text).casefold()):
        word = match[0]
        if match[1]:
            found += [*word, *(word[i : i + 2] for i in range(len(word) - 1))]
        else:
            found.append(_stem(word))
    return found + [f"{letters}#" for letters in _ID.findall(text.casefold())]


def _stem(word: str) -> str:
    if not word.endswith("ss"):
        for suffix in _SUFFIXES:
            if word.endswith(suffix) and len(word) >= len(suffix) + 3:
                return word.removesuffix(suffix)
    return word


class Index:
    """For one list of tools: those of the server, and OpenAI function schemas."""

    def __init__(self, tools: Sequence[Tool | dict[str, Any]]) -> None:
        self._counts = [Counter(terms(" ".join(_texts(tool)))) for tool in tools]
        sizes = [count.total() for count in self._counts]
        mean = sum(sizes) / max(1, len(sizes)) or 1.0
        self._norms = [_K * (1 - _B + _B * size / mean) for size in sizes]
        spread = Counter(term for count in self._counts for term in count)
        self._weights = {term: math.log(1 + (len(tools) - n + 0.5) / (n + 0.5)) for term, n in spread.items()}

    def scores(self, query: str) -> list[float]:
        """How well each of them fits."""
        wanted = [term for term in dict.fromkeys(terms(query)) if term in self._weights]
        return [
            sum(self._weights[t] * count[t] * (_K + 1) / (count[t] + norm) for t in wanted if count[t])
            for count, norm in zip(self._counts, self._norms, strict=True)
        ]


_index = IdentityCache(Index)


def shortlist(tools: Toolset, query: str, limit: int, keep: Collection[str] = ()) -> Toolset:
    """At most `limit` of the tools, in their order: the one chosen by name, those named in `keep`, then the
    best. Of equally good ones the first are taken. Those left out are not shown, but calls that were made
    already still find them.
    """
    if len(tools.schemas) <= limit:
        return tools
    names = [schema["function"]["name"] for schema in tools.schemas]
    server = dict(tools.server)
    every = [server.get(name, schema) for name, schema in zip(names, tools.schemas, strict=True)]
    scores = _index(every).scores(query)
    order = sorted(
        range(len(names)), key=lambda i: (names[i] != tools.choice, names[i] not in keep, -scores[i], i)
    )
    chosen = {names[i] for i in order[:limit]}
    shown = tuple(schema for schema, name in zip(tools.schemas, names, strict=True) if name in chosen)
    return replace(tools, schemas=shown)


def _texts(tool: Tool | dict[str, Any]) -> Iterator[str]:
    schema = tool.schema if isinstance(tool, Tool) else tool
    function = schema["function"]
    yield from (function["name"], function["name"], function.get("description", ""))
    yield from _parameters(function.get("parameters", {}))
    if isinstance(tool, Tool):
        yield from tool.keywords


def _parameters(schema: Any) -> Iterator[str]:
    """Names, descriptions and possible values of an object's members, and of theirs."""
    members = schema.get("properties") if isinstance(schema, dict) else None
    for name, inner in members.items() if isinstance(members, dict) else ():
        yield name
        if isinstance(inner, dict):
            yield str(inner.get("description", ""))
            values = [inner.get(key) for key in ("enum", "examples", "const", "default")]
            yield json.dumps(
                [value for value in values if value is not None], ensure_ascii=False, default=str
            )
            yield from _parameters(inner)
            yield from _parameters(inner.get("items"))
