"""Measure the bundled model, per set and language: `python -m engines.demo.evaluate ENGINE`.

Counted: the tool's name; all arguments exactly right; the final sentence repeats the key values of the
result; greetings and requests out of scope get no call. An engine folder is measured as it serves, with the
grammar of the tools; a checkpoint folder by plain greedy decoding in PyTorch.
"""

import argparse
import json
from collections import defaultdict
from pathlib import Path
from typing import Any

from engines.demo import completion
from engines.demo.cases import Case, hand_written, held_out
from engines.demo.completion import Complete
from engines.demo.dialogue import Message
from engines.demo.phrasing import LANGUAGES

Tally = dict[str, list[bool]]


def parse(text: str) -> tuple[str | None, dict[str, Any] | None]:
    """(tool, arguments) of a call `NAME\\n{json}`; (None, None) of an answer; arguments None if not JSON."""
    name, _, body = text.partition("\n")
    if not name:
        return None, None
    try:
        return name, json.loads(body)
    except ValueError:
        return name, None


def score(cases: list[Case], complete: Complete) -> tuple[Tally, list[str]]:
    """What was right, by kind of measure and by tool, and a line for each mistake."""
    tally: Tally = defaultdict(list)
    mistakes = []
    first = complete([[{"role": "user", "content": case.text}] for case in cases])
    again: list[Case] = []
    for case, text in zip(cases, first, strict=True):
        tool, arguments = parse(text)
        if case.tool is None:
            right = tool is None
            tally[case.kind].append(right)
        else:
            right = tool == case.tool and arguments == case.arguments
            tally["tool"].append(tool == case.tool)
            tally["arguments"].append(right)
            tally[case.tool].append(right)
            if tool == case.tool:
                again.append(case)
        if not right:
            mistakes.append(f"{case.kind} {case.arguments} | {case.text!r} -> {text!r}")
    for case, text in zip(again, complete([_history(case) for case in again]), strict=True):
        right = text.startswith("\n") and all(value in text for value in case.key_values)
        tally["sentence"].append(right)
        if not right:
            mistakes.append(f"sentence {case.result} -> {text!r}")
    return tally, mistakes


def _history(case: Case) -> list[Message]:
    arguments = json.dumps(case.arguments, ensure_ascii=False)
    return [
        {"role": "user", "content": case.text},
        {"role": "assistant", "metadata": case.tool, "content": arguments},
        {"role": "observation", "content": case.result},
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure the bundled model.")
    parser.add_argument("model", type=Path, help="engine or checkpoint folder")
    parser.add_argument("--set", choices=("held_out", "hand_written"), help="only this set")
    parser.add_argument("--copies", type=int, default=2, help="fillings of each held-out phrasing")
    parser.add_argument("--mistakes", type=Path, help="file to write the mistakes to")
    options = parser.parse_args()
    engine = (options.model / "manifest.json").is_file()
    complete = completion.served(options.model) if engine else completion.greedy(options.model)
    lines = []
    for name, make in (
        ("held_out", lambda lang: held_out(lang, options.copies)),
        ("hand_written", hand_written),
    ):
        if options.set not in (None, name):
            continue
        for language in LANGUAGES:
            tally, mistakes = score(make(language), complete)
            shares = (f"{kind} {sum(r) / len(r):.1%} ({sum(r)}/{len(r)})" for kind, r in tally.items())
            print(f"{name} {language}: " + "  ".join(shares), flush=True)
            lines += [f"{name} {language} {mistake}" for mistake in mistakes]
    if options.mistakes:
        options.mistakes.write_text("\n".join(lines) + "\n", "utf-8")


if __name__ == "__main__":
    main()
