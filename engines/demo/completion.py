"""Two ways to let the model write: through the engine that serves, and straight from the checkpoint."""

from collections.abc import Callable
from pathlib import Path

from engines.demo.dialogue import TOOLS, Message

# Messages of several conversations to the text the model writes next, without its end token.
Complete = Callable[[list[list[Message]]], list[str]]
MAX_TOKENS = 160


def served(folder: Path, slots: int = 16) -> Complete:
    """The engine folder as the daemon runs it: batched, greedy, within the grammar of the tools."""
    from engines.serve.engine import Engine
    from engines.serve.grammar import Grammar
    from engines.serve.prompt import Prompt

    engine = Engine.load(folder, slots=slots, capacity=1024, queue_limit=10**6)
    tokenizer = engine.tokenizer
    if tokenizer is None:
        raise SystemExit(f"{folder} has no tokenizer.json: build it from engines/demo/model.")
    engine.start()
    grammar = Grammar.lark(tokenizer.format.grammar(TOOLS))

    def complete(conversations: list[list[Message]]) -> list[str]:
        prompts = [tokenizer.render(messages, TOOLS) for messages in conversations]
        started = [engine.submit(Prompt(ids, MAX_TOKENS, grammar=grammar)) for ids in prompts]
        return [tokenizer.decode(generation.wait().token_ids) for generation in started]

    return complete


def greedy(folder: Path, rows: int = 64) -> Complete:
    """Plain greedy decoding in PyTorch, without a grammar: what the weights know by themselves."""
    from engines.demo import checkpoint, decoding
    from engines.demo.tokens import Renderer

    model, definition = checkpoint.load(folder)
    renderer = Renderer(definition)

    def complete(conversations: list[list[Message]]) -> list[str]:
        prompts = [renderer.ids(messages, TOOLS, prompt=True) for messages in conversations]
        texts = [""] * len(prompts)
        order = sorted(range(len(prompts)), key=lambda index: len(prompts[index]))
        for start in range(0, len(order), rows):
            chunk = order[start : start + rows]
            written = decoding.complete(model, [prompts[i] for i in chunk], renderer.ends, MAX_TOKENS)
            for index, ids in zip(chunk, written, strict=True):
                texts[index] = renderer.tokenizer.decode(ids)
        return texts

    return complete
