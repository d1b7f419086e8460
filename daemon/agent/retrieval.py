"""Which tools to show the model when there are more than its prompt has room for.

BM25 over names, descriptions and parameters (Robertson and Zaragoza, "The Probabilistic Relevance Framework:
BM25 and Beyond", 2009); names count twice. Words of names are split at `_`, `-`, `.` and capitals; Chinese
text, which has no spaces, counts by pairs of characters.
"""

import math
import re
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any

from daemon.agent.toolset import Toolset
from engines.tokenizer.identity import IdentityCache

_K, _B = 1.2, 0.75
_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_TERM = re.compile(r"[a-z]+|[0-9]+|[\u3400-\u9fff]+")


def terms(text: str) -> list[str]:
    """Words without a plural's s, numbers, and pairs of Chinese characters."""
    found = list[str]()
    for word in _TERM.findall(_HUMP.sub(" ", text).lower()):
        if word[0] >= "\u3400":
            found += [word[i : i + 2] for i in range(len(word) - 1)] or [word]
        else:
            found.append(word[:-1] if len(word) > 3 and word.endswith("s") and word[-2] != "s" else word)
    return found


class Index:
    """For one list of OpenAI function schemas."""

    def __init__(self, schemas: Sequence[dict[str, Any]]) -> None:
        self._counts = [Counter(terms(_text(schema["function"]))) for schema in schemas]
        sizes = [count.total() for count in self._counts]
        mean = sum(sizes) / max(1, len(sizes)) or 1.0
        self._norms = [_K * (1 - _B + _B * size / mean) for size in sizes]
        spread = Counter(term for count in self._counts for term in count)
        self._weights = {
            term: math.log(1 + (len(schemas) - n + 0.5) / (n + 0.5)) for term, n in spread.items()
        }

    def scores(self, query: str) -> list[float]:
        """How well each schema fits."""
        wanted = [term for term in dict.fromkeys(terms(query)) if term in self._weights]
        return [
            sum(self._weights[t] * count[t] * (_K + 1) / (count[t] + norm) for t in wanted if count[t])
            for count, norm in zip(self._counts, self._norms, strict=True)
        ]


_index = IdentityCache(Index)


def shortlist(tools: Toolset, query: str, limit: int, keep: Collection[str] = ()) -> Toolset:
    """At most `limit` of the tools, in their order: those named in `keep` and chosen by name, then the best.

    Of equally good ones the first are taken.
    """
    if len(tools.schemas) <= limit:
        return tools
    fixed = {tools.choice, *keep}
    scores = _index(tools.schemas).scores(query)
    names = [schema["function"]["name"] for schema in tools.schemas]
    order = sorted(range(len(names)), key=lambda i: (names[i] not in fixed, -scores[i], i))
    chosen = {names[i] for i in order[:limit]}
    return replace(
        tools,
        schemas=tuple(schema for schema, name in zip(tools.schemas, names, strict=True) if name in chosen),
        server=tuple((name, tool) for name, tool in tools.server if name in chosen),
    )


def _text(function: dict[str, Any]) -> str:
    parameters = function.get("parameters", {}).get("properties", {})
    words = [function["name"], function["name"], function.get("description", ""), *parameters]
    words += [p.get("description", "") for p in parameters.values() if isinstance(p, dict)]
    return " ".join(words)
