"""`autoglm complete`: try an engine without a queue."""

import dataclasses
import json
from pathlib import Path
from typing import Annotated

import typer


def complete(
    engine: Annotated[Path, typer.Argument(help="An engine folder.")],
    text: Annotated[
        str | None, typer.Argument(help="The text to continue, as it is: no chat template.")
    ] = None,
    ids: Annotated[str | None, typer.Option(help="Token ids instead of text: 1,2,3.")] = None,
    max_tokens: Annotated[int, typer.Option(min=1)] = 64,
    temperature: Annotated[float, typer.Option(min=0.0, help="0 is greedy.")] = 0.0,
    top_k: Annotated[int, typer.Option(min=0)] = 0,
    top_p: Annotated[float, typer.Option(min=0.0, max=1.0)] = 1.0,
    seed: Annotated[int | None, typer.Option(min=0)] = None,
    ignore_eos: Annotated[bool, typer.Option("--ignore-eos", help="Go on until --max-tokens.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print token_ids, text and timings.")] = False,
) -> None:
    """Continue a text, or token ids for a checkpoint without a tokenizer."""
    from daemon.errors import InvalidRequest
    from engines.serve.engine import Engine
    from engines.serve.prompt import Prompt, Sampling

    if (text is None) == (ids is None):
        raise InvalidRequest("give either TEXT or --ids, not both and not neither.")
    loaded = Engine.load(engine, slots=1)
    try:
        if ids is None:
            if loaded.tokenizer is None:
                raise InvalidRequest(f"{engine} has no tokenizer; give token ids with --ids 1,2,3.")
            token_ids = loaded.tokenizer.encode(text or "")
        else:
            token_ids = _parse(ids, loaded.manifest.sizes.vocab_size)
        loaded.start()
        prompt = Prompt(
            token_ids=tuple(token_ids),
            max_tokens=max_tokens,
            sampling=Sampling(temperature=temperature, top_k=top_k, top_p=top_p, seed=seed),
            ignore_eos=ignore_eos,
        )
        done = loaded.submit(prompt).wait()
    finally:
        loaded.close()
    output = loaded.tokenizer.decode(done.token_ids) if loaded.tokenizer else None
    if as_json:
        fields = dataclasses.asdict(done)
        timings = {name: value for name, value in fields.items() if name.endswith("_ms")}
        rest = {name: value for name, value in fields.items() if name not in timings and name != "token_ids"}
        typer.echo(
            json.dumps(
                {"token_ids": list(done.token_ids), "text": output, "timings": timings, **rest},
                ensure_ascii=False,
            )
        )
    else:
        typer.echo(output if output is not None else ",".join(map(str, done.token_ids)))


def _parse(ids: str, vocab_size: int) -> list[int]:
    from daemon.errors import InvalidRequest

    try:
        numbers = [int(part) for part in ids.split(",")]
    except ValueError:
        raise InvalidRequest(f"--ids wants whole numbers separated by commas, not {ids!r}.") from None
    for number in numbers:
        if not 0 <= number < vocab_size:
            raise InvalidRequest(f"--ids: {number} is not in the vocabulary, 0 to {vocab_size - 1}.")
    return numbers
