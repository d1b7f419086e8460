"""What an engine's tokens mean: read once, however many engines of this process share it."""

import threading
from dataclasses import dataclass
from pathlib import Path
from weakref import WeakValueDictionary

from engines.manifest import FileEntry, Manifest
from engines.serve.masks import GrammarCompiler
from engines.tokenizer import Tokenizer

_FILES = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")
_Key = tuple[tuple[FileEntry | None, ...], int, tuple[int, ...]]

# Reading a large vocabulary takes a second, most of it with the interpreter's lock held: replicas, and
# another build of the same model, do without.
_read: WeakValueDictionary[_Key, "Language"] = WeakValueDictionary()
_lock = threading.Lock()


@dataclass(frozen=True, eq=False)
class Language:
    """Safe to use from any thread."""

    tokenizer: Tokenizer
    compiler: GrammarCompiler

    @classmethod
    def of(cls, folder: Path, manifest: Manifest) -> "Language | None":
        """None when the folder has no tokenizer. Raises TokenizerMissing, GrammarError."""
        if manifest.tokenizer_sha256 is None:
            return None
        sizes, ends = manifest.sizes, tuple(manifest.eos_token_ids)
        key = (tuple(manifest.files.get(name) for name in _FILES), sizes.vocab_size, ends)
        with _lock:
            language = _read.get(key)
            if language is None:
                tokenizer = Tokenizer.load(folder)
                compiler = GrammarCompiler.over(tokenizer.definition, sizes.vocab_size, ends)
                language = _read[key] = cls(tokenizer, compiler)
            return language
