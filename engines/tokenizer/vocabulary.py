"""The bytes that each token stands for.

Two kinds of vocabulary are in use by GLM checkpoints: byte-level BPE, where every byte is written as one
printable character (the table of GPT-2's `bytes_to_unicode`), and SentencePiece with byte fallback, where
`▁` is a space and `<0xE4>` one byte.
"""

import re
from functools import lru_cache
from typing import Any

_BYTE_FALLBACK = re.compile(r"<0x([0-9A-Fa-f]{2})>")


@lru_cache(maxsize=1)
def byte_of_character() -> dict[str, int]:
    """Printable stand-in → byte. Printable Latin-1 stands for itself, the rest is moved to U+0100 onwards."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), 256)]
    moved = [byte for byte in range(256) if byte not in set(printable)]
    return {chr(byte): byte for byte in printable} | {
        chr(256 + index): byte for index, byte in enumerate(moved)
    }


def token_bytes(definition: dict[str, Any], vocabulary: dict[str, int], added: dict[int, str]) -> list[bytes]:
    """Bytes by token id. `definition` is tokenizer.json, `added` maps added tokens' ids to their literals."""
    byte_level = _uses(definition.get("decoder"), "ByteLevel")
    table = byte_of_character()
    pieces = [b""] * (max(vocabulary.values(), default=-1) + 1)
    for piece, index in vocabulary.items():
        if index in added:
            pieces[index] = added[index].encode()
        elif byte_level and all(character in table for character in piece):
            pieces[index] = bytes(table[character] for character in piece)
        elif match := _BYTE_FALLBACK.fullmatch(piece):
            pieces[index] = bytes([int(match[1], 16)])
        else:
            pieces[index] = piece.replace("▁", " ").encode()
    return pieces


def _uses(decoder: Any, kind: str) -> bool:
    if not isinstance(decoder, dict):
        return False
    return decoder.get("type") == kind or any(_uses(inner, kind) for inner in decoder.get("decoders", []))
