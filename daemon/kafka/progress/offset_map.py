"""The string form of done runs: `oag1` + a letter + base64url(crc32, counts, map).

`r`: LEB128 numbers, the lengths of the alternating not-done and done runs from the committed offset on.
`b`: a bitmap of the offsets after the committed one, lowest bit first. The shorter form is used. The counts
are the opening number; in `R` and `B`, which are the same forms, all three of `Counts`. The CRC-32 covers
the committed offset too, so that a map copied to another offset is not believed.
"""

import base64
import binascii
import itertools
import zlib
from typing import NamedTuple

Run = tuple[int, int]
"""Offsets from the first on up to, not including, the second."""

MAX_BYTES = 4096  # the brokers' default `offset.metadata.max.bytes`
_PREFIX = "oag1"
_PAYLOAD = (MAX_BYTES - len(_PREFIX) - 1) * 3 // 4
# A bitmap of this many offsets fits, whatever is done, with 4 bytes CRC and 5 bytes for each of the counts.
MAX_SPAN = (_PAYLOAD - 4 - 15) * 8
_MAX_COUNT = 2**32 - 1


class Counts(NamedTuple):
    """What a partition's owners went through since it was last left with nothing half done.

    `opening`: times it was opened. `deaths`: openings in a row that did not end in order, the present one
    included while it lasts. `trials`: times the committed offset was worked on alone in its process.
    """

    opening: int = 0
    deaths: int = 0
    trials: int = 0


NO_COUNTS = Counts()


def encode(offset: int, counts: Counts, runs: list[Run]) -> str:
    """`runs`: sorted, apart, beyond `offset`. Empty when there is nothing to tell.

    Raises ValueError when the map does not fit into 4096 bytes, which a span under MAX_SPAN always does.
    """
    if not runs and not any(counts):
        return ""
    short = counts == Counts(counts.opening)
    number = _numbers([min(count, _MAX_COUNT) for count in (counts[:1] if short else counts)])
    edges = [offset, *itertools.chain.from_iterable(runs)]
    lengths = _numbers([after - before for before, after in itertools.pairwise(edges)])
    kind, body = "r", lengths
    if runs and (runs[-1][1] - offset) // 8 + 1 < len(lengths):
        kind, body = "b", _bitmap(offset, runs)
    kind = kind if short else kind.upper()
    payload = number + body
    text = f"{_PREFIX}{kind}" + base64.urlsafe_b64encode(
        _crc(offset, kind, payload) + payload
    ).decode().rstrip("=")
    if len(text) > MAX_BYTES:
        raise ValueError(f"offset map of {len(text)} bytes")
    return text


def decode(offset: int, text: str) -> tuple[Counts, list[Run]]:
    """The counts and the runs; zeros and [] for anything that `encode` did not write for `offset`."""
    kind = text[len(_PREFIX) : len(_PREFIX) + 1]
    if not text.startswith(_PREFIX) or kind not in ("r", "b", "R", "B") or len(text) > MAX_BYTES:
        return NO_COUNTS, []
    encoded = text[len(_PREFIX) + 1 :]
    try:
        data = base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4))
    except (binascii.Error, ValueError):
        return NO_COUNTS, []
    crc, payload = data[:4], data[4:]
    if crc != _crc(offset, kind, payload):
        return NO_COUNTS, []
    numbers, body = [], payload
    for _ in range(3 if kind.isupper() else 1):
        number, body = _first_number(body)
        numbers.append(number)
    runs = _from_lengths(offset, body) if kind in "rR" else _from_bitmap(offset, body)
    return Counts(*numbers), runs


def _crc(offset: int, kind: str, payload: bytes) -> bytes:
    return zlib.crc32(payload, zlib.crc32(f"{kind}{offset}".encode())).to_bytes(4, "big")


def _numbers(values: list[int]) -> bytes:
    out = bytearray()
    for value in values:
        rest = value
        while rest > 0x7F:
            out.append(rest & 0x7F | 0x80)
            rest >>= 7
        out.append(rest)
    return bytes(out)


def _first_number(data: bytes) -> tuple[int, bytes]:
    value = shift = 0
    for index, byte in enumerate(data):
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value, data[index + 1 :]
    return value, b""


def _from_lengths(offset: int, data: bytes) -> list[Run]:
    edges = []
    while data:
        length, data = _first_number(data)
        offset += length
        edges.append(offset)
    return list(zip(edges[::2], edges[1::2], strict=False))


def _bitmap(offset: int, runs: list[Run]) -> bytes:
    bits = 0
    for first, last in runs:
        bits |= ((1 << (last - first)) - 1) << (first - offset - 1)
    return bits.to_bytes((bits.bit_length() + 7) // 8, "little")


def _from_bitmap(offset: int, data: bytes) -> list[Run]:
    bits = int.from_bytes(data, "little")
    runs = []
    while bits:
        skip = (bits & -bits).bit_length() - 1
        bits >>= skip
        length = (~bits & (bits + 1)).bit_length() - 1
        bits >>= length
        offset += skip
        runs.append((offset + 1, offset + 1 + length))
        offset += length
    return runs
