"""The engine the daemon calls: one thread that runs one model for everybody."""

import dataclasses
import logging
import random
import threading
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import count
from pathlib import Path
from typing import Self

import numpy as np

from engines.errors import (
    EngineBusy,
    EngineClosed,
    EngineFailed,
    GpuFailed,
    GrammarError,
    HiddenStateMissing,
    InvalidPrompt,
    PromptTooLong,
)
from engines.manifest import Manifest
from engines.serve.closing import Closing
from engines.serve.costs import StepCosts
from engines.serve.generation import Generation, notify, running_loop
from engines.serve.history import History
from engines.serve.language import Language
from engines.serve.masks import GrammarCompiler
from engines.serve.prompt import Prompt
from engines.serve.row import Row
from engines.serve.runtime.choose import Wanted, open_runtime
from engines.serve.runtime.contract import Runtime
from engines.serve.stats import EngineStats
from engines.serve.stepper import Stepper
from engines.tokenizer import Tokenizer

log = logging.getLogger(__name__)

_ENOUGH_STEPS = 32


class Engine:
    """Submit prompts from any thread; `start` before, `close` after.

    rows: how many may run at once. queue_limit: how many more may wait.
    failed: done when the engine's thread ends, with the error that killed it if one did.
    """

    def __init__(
        self,
        runtime: Runtime,
        *,
        rows: int | None = None,
        eos_token_ids: Sequence[int] = (),
        compiler: GrammarCompiler | None = None,
        costs: StepCosts | None = None,
        queue_limit: int = 1024,
    ) -> None:
        self._runtime, self._compiler = runtime, compiler
        self._rows_at_once = runtime.slots if rows is None else rows
        self._queue_limit = queue_limit
        self._manifest: Manifest | None = None
        self._language: Language | None = None  # kept for those that come later
        self.tokenizer: Tokenizer | None = None
        self._eos = frozenset(eos_token_ids)
        closing = Closing(compiler.bytes_of, runtime.vocab_size) if compiler else None
        self._stepper = Stepper(runtime, self._rows_at_once, costs or StepCosts(), self._forget, closing)
        self._numbers = count()
        self._condition = threading.Condition()
        self._arrived: deque[Row] = deque()
        self._cancelled: deque[Generation] = deque()
        self._open: dict[Generation, Row] = {}
        self._error: EngineFailed | None = None
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self._compiling = ThreadPoolExecutor(1, "grammar")
        self.failed: Future[None] = Future()

    @classmethod
    def load(
        cls,
        folder: Path,
        *,
        slots: int | None = None,
        capacity: int | None = None,
        memory: float | None = None,
        device: str | int | None = None,
        threads: int | None = None,
        spinning: bool = False,
        stall: float = 0.1,
        queue_limit: int = 1024,
    ) -> Self:
        """Open an engine folder.

        slots: rows that may run at once; capacity: tokens per row; None chooses by free memory.
        memory: the share of the device's memory that weights and caches may take; None: what is free.
        device: of the GPU that a TensorRT engine runs on, an index or UUID.
        stall: seconds a prefill may keep decoding rows waiting.
        Without a tokenizer.json, `tokenizer` is None and grammars are refused.
        Raises EngineFolderError, EngineTooLarge, TokenizerMissing, GrammarError, DeviceNotFound, GpuFailed.
        """
        manifest = Manifest.load(folder)
        language = Language.of(folder, manifest)
        runtime, rows = open_runtime(
            folder, manifest, Wanted(slots, capacity, memory, device, threads, spinning)
        )
        engine = cls(
            runtime,
            rows=rows,
            eos_token_ids=manifest.eos_token_ids,
            compiler=language.compiler if language else None,
            costs=StepCosts(stall=stall),
            queue_limit=queue_limit,
        )
        engine._manifest, engine._language = manifest, language
        engine.tokenizer = language.tokenizer if language else None
        try:
            engine._stepper.warm_up()
        except BaseException:
            engine.close()
            raise
        runtime.leave()
        return engine

    @property
    def manifest(self) -> Manifest:
        """What the engine folder says; only a loaded engine has one."""
        if self._manifest is None:
            raise AttributeError("this engine was not loaded from a folder")
        return self._manifest

    @property
    def alive(self) -> bool:
        """Whether it takes prompts: it has neither failed nor been closed."""
        return self._error is None and not self._closing

    @property
    def decode_seconds(self) -> dict[int, float]:
        """See StepCosts; from any thread. Empty until there were enough steps to go by."""
        enough = self._stepper.counters.decode_steps >= _ENOUGH_STEPS
        return self._stepper.costs.decode_seconds if enough else {}

    def start(self) -> None:
        self._thread.start()

    def close(self, timeout: float = 30.0) -> None:
        """Stop after the running step. What is still open fails with EngineClosed."""
        with self._condition:
            self._closing = True
            self._condition.notify()
        self._compiling.shutdown(wait=False, cancel_futures=True)
        if self._thread.is_alive():
            self._thread.join(timeout)
        elif self._error is None:
            self._die(EngineClosed())

    def submit(self, prompt: Prompt) -> Generation:
        """Queue a prompt. Raises InvalidPrompt, PromptTooLong, GrammarError, EngineBusy or EngineFailed."""
        row = self._row(prompt)
        with self._condition:
            if self._error is not None or self._closing:
                raise _again(self._error or EngineClosed())
            if len(self._open) >= self._rows_at_once + self._queue_limit:
                raise EngineBusy(f"{len(self._open)} requests are waiting already; send this one later")
            self._open[row.generation] = row
            if prompt.grammar is None or row.grammar is not None:
                self._arrive(row)
                return row.generation
        self._compiling.submit(self._compile, row)
        return row.generation

    def stats(self) -> EngineStats:
        """A snapshot for metrics, from any thread."""
        table, counters = self._stepper.table, self._stepper.counters
        return EngineStats(
            active_rows=table.active,
            queued=max(0, len(self._open) - table.active),
            cached_slots=table.cached,
            slots=table.slots,
            tokens_per_second=self._stepper.costs.tokens_per_second(),
            **{field.name: getattr(counters, field.name) for field in dataclasses.fields(counters)}
            | {"finished": dict(counters.finished)},
        )

    def _row(self, prompt: Prompt) -> Row:
        ids = np.asarray(prompt.token_ids)
        if ids.dtype.kind not in "iu" or ids.ndim != 1:
            raise InvalidPrompt("token_ids must be a flat list of integers")
        if ids.min() < 0 or ids.max() >= self._runtime.vocab_size:
            raise InvalidPrompt(f"token ids must be in [0, {self._runtime.vocab_size})")
        stops = self._eos if prompt.stop_token_ids is None else frozenset(prompt.stop_token_ids)
        if prompt.stop_token_ids is not None and not all(0 <= t < self._runtime.vocab_size for t in stops):
            raise InvalidPrompt(f"stop tokens must be in [0, {self._runtime.vocab_size})")
        if prompt.embed and self._runtime.hidden_size is None:
            raise HiddenStateMissing
        options = prompt.options
        if options is not None and not all(
            0 <= t < self._runtime.vocab_size for o in options.options for t in o
        ):
            raise InvalidPrompt(f"option tokens must be in [0, {self._runtime.vocab_size})")
        room = self._runtime.capacity - len(ids)
        needed = len(options.prefix) + options.depth if options is not None else 0
        if room < max(1 + needed, prompt.room):
            more = f" and its options need {needed} more" if needed else ""
            raise PromptTooLong(
                f"the prompt has {len(ids)} tokens{more}, "
                f"this engine takes at most {self._runtime.capacity - 1} in all"
            )
        if prompt.grammar is not None and self._compiler is None:
            raise GrammarError("this engine has no tokenizer, so it cannot follow a response format")
        seed = prompt.sampling.seed
        return Row(
            number=next(self._numbers),
            prompt=prompt,
            limit=min(prompt.max_tokens, room),
            stops=frozenset() if prompt.ignore_eos else stops,
            seed=random.getrandbits(64) if seed is None else seed,
            submitted=time.monotonic(),
            generation=Generation(self._cancel, running_loop()),
            grammar=self._compiler.ready(prompt.grammar) if self._compiler and prompt.grammar else None,
            history=None if prompt.sampling.repetition_penalty == 1 else History(self._runtime.vocab_size),
        )

    def _compile(self, row: Row) -> None:
        """Grammar thread: large grammars take up to a second, which no other request should wait for."""
        assert self._compiler is not None and row.prompt.grammar is not None
        late = row.deadline is not None and row.deadline <= time.monotonic()
        try:
            if not (late or row.generation.done):  # others wait for their grammars
                row.grammar = self._compiler.compile(row.prompt.grammar)
        except Exception as error:
            self._forget(row.generation)
            row.generation.finish(error)
            notify([row.generation])
            return
        with self._condition:
            self._arrive(row)

    def _arrive(self, row: Row) -> None:
        self._arrived.append(row)
        self._condition.notify()

    def _cancel(self, generation: Generation) -> None:
        with self._condition:
            self._cancelled.append(generation)
            self._condition.notify()

    def _forget(self, generation: Generation) -> None:
        self._open.pop(generation, None)

    def _run(self) -> None:
        """The engine's thread: step while there is work, sleep otherwise."""
        try:
            while self._take():
                self._stepper.step()
        except BaseException as error:
            # Where in the code a GPU's failure was noticed tells nothing.
            log.error("the engine failed: %s", error, exc_info=not isinstance(error, GpuFailed))
            failure = EngineFailed(f"the engine stopped: {type(error).__name__}: {error}")
            failure.__cause__ = error
            self._die(failure)
        else:
            self._die(EngineClosed())

    def _take(self) -> bool:
        """Take in what came from other threads, waiting while there is nothing to do; False to stop."""
        scheduler = self._stepper.scheduler
        with self._condition:
            if not (self._arrived or self._cancelled or scheduler.busy or self._closing):
                scheduler.check()
            while not (self._arrived or self._cancelled or scheduler.busy or self._closing):
                self._condition.wait()
            if self._closing:
                return False
            arrived, self._arrived = self._arrived, deque()
            cancelled, self._cancelled = self._cancelled, deque()
        for generation in cancelled:
            if (open_row := self._open.get(generation)) is not None:
                self._stepper.end(open_row, "cancelled")
        for row in arrived:
            if not row.generation.done:
                self._stepper.add(row)
        return True

    def _die(self, error: EngineFailed) -> None:
        """Fail everything that is open, and everything submitted from now on."""
        with self._condition:
            self._error = error
            generations, self._open = list(self._open), {}
        self._stepper.flush()  # those that ended in the very step that failed
        for generation in generations:
            generation.finish(_again(error))
        notify(generations)
        if not isinstance(error, EngineClosed):
            self.failed.set_exception(error)  # before anything is asked of a GPU that may never answer
        self._runtime.close()
        if isinstance(error, EngineClosed):
            self.failed.set_result(None)


def _again(error: EngineFailed) -> EngineFailed:
    """A fresh copy for each who gets it: an exception keeps the traceback of everybody who raised it."""
    copy = type(error)(str(error))
    copy.__cause__ = error.__cause__
    return copy
