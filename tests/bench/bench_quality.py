"""What quantization costs the bundled model, as a Markdown table: size, divergence, perplexity, its task.

usage: python -m tests.bench.bench_quality [--checkpoint FOLDER] [--block 64] [--set hand_written] [--no-task]

Calibrated on dialogues of the training phrasings. KL divergence and perplexity are of the assistant's own
tokens in dialogues of held-out phrasings; tool, arguments and sentence are those of engines.demo.evaluate.
"""

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path

import tokenizers

from engines.build import build
from engines.build.checkpoint import Checkpoint
from engines.build.quality import Reference
from engines.build.windows import Text, windows
from engines.demo.cases import hand_written, held_out
from engines.demo.completion import served
from engines.demo.corpus import words
from engines.demo.dialogue import TOOL_NAMES, TOOLS, Author
from engines.demo.evaluate import score
from engines.demo.phrasing import LANGUAGES, Part
from engines.demo.tokens import Renderer
from engines.manifest import Manifest

MODEL = Path(__file__).parents[2] / "engines" / "demo" / "model"
CALIBRATION, HELD_OUT = 140, 200  # dialogues
EVERYTHING = 10**9
SETS = {"hand_written": hand_written, "held_out": held_out}
MEASURES = ("tool", "arguments", "sentence")


def dialogues(checkpoint: Path, part: Part, count: int) -> list[Text]:
    """Dialogues in all languages, and which of their tokens the model was taught to predict."""
    renderer = Renderer(tokenizers.Tokenizer.from_file(str(checkpoint / "tokenizer.json")))
    authors = [Author(language, part, 17, words()) for language in LANGUAGES]
    prefix = renderer.prefix(TOOLS)
    texts: list[Text] = []
    for index in range(count):
        ids, learned = renderer.example(authors[index % len(authors)].dialogue(TOOL_NAMES))
        texts.append((prefix + ids, [False] * len(prefix) + learned))
    return texts


def engines(checkpoint: Path, work: Path, block: int) -> Iterator[tuple[str, Path, Manifest]]:
    """(what, graph to measure, manifest) of every way to store the weights."""
    text = dialogues(checkpoint, "train", CALIBRATION)
    for precision in ("fp32", "int8", "int4"):
        for method, calibration in (("rounding", []), ("GPTQ", text)):
            if precision == "fp32" and calibration:
                continue
            out = work / f"{precision}-{method}"
            manifest = build(checkpoint, out, precision=precision, block=block, calibration=calibration)
            yield precision if precision == "fp32" else f"{precision} {method}", out, manifest


def task(folder: Path, sets: list[str]) -> dict[str, float]:
    """Shares of right tool names, arguments and sentences over sets and languages."""
    right: dict[str, list[bool]] = {measure: [] for measure in MEASURES}
    complete = served(folder)
    for name in sets:
        for language in LANGUAGES:
            tally, _ = score(SETS[name](language), complete)
            for measure in MEASURES:
                right[measure] += tally[measure]
    return {measure: sum(answers) / len(answers) for measure, answers in right.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoint", type=Path, default=MODEL)
    parser.add_argument("--block", type=int, default=64, help="weights per scale")
    parser.add_argument("--set", choices=SETS, help="only this set of requests")
    parser.add_argument("--no-task", action="store_true", help="leave the requests out")
    options = parser.parse_args()
    sets = [] if options.no_task else [options.set] if options.set else list(SETS)
    source = Checkpoint(options.checkpoint)
    text = dialogues(options.checkpoint, "held_out", HELD_OUT)
    columns = ("weights", "MB", "KL mean", "KL p99", "same token", "perplexity", "change")
    columns += tuple(f"{measure} right" for measure in MEASURES if sets)
    print("| " + " | ".join(columns) + " |\n" + "|---" * len(columns) + "|")
    with tempfile.TemporaryDirectory() as folder:
        reference = Reference(
            source, windows(source, text, EVERYTHING), Path(folder), lambda done, total: None
        )
        for name, out, manifest in engines(options.checkpoint, Path(folder), options.block):
            found = reference.measure(out / manifest.graphs["fused"])
            weights = sum(e.bytes for file, e in manifest.files.items() if file.startswith("graph.onnx"))
            cells = [
                name,
                f"{weights / 1e6:.2f}",
                f"{found['kl_mean']:.5f}",
                f"{found['kl_p99']:.4f}",
                f"{found['same_token']:.2%}",
                f"{found['perplexity']:.4f}",
                f"{found['perplexity_change']:+.2%}",
                *(f"{share:.1%}" for share in (task(out, sets) if sets else {}).values()),
            ]
            print("| " + " | ".join(cells) + " |", flush=True)
    requests = sum(len(SETS[name](language)) for name in sets for language in LANGUAGES)
    print(f"\n{found['tokens']} tokens of {HELD_OUT} dialogues; {requests} requests")


if __name__ == "__main__":
    main()
