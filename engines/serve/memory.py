"""How many slots and how much context fit, when nobody says."""

from dataclasses import dataclass

from engines.errors import EngineTooLarge
from engines.manifest import Manifest

_SLOTS, _CAPACITY = 64, 4096  # more than these only when asked for
_SHARE = 0.5  # of the free memory that caches may take by default


def slots_for(rows: int) -> int:
    """One slot in eight, at least one, is on top of `rows`: it keeps prefixes while all rows run."""
    return rows + max(1, rows // 8)


def rows_of(slots: int) -> int:
    """The most rows that so many slots are for; a single slot runs a row all the same."""
    return max(1, slots * 8 // 9)


def check_capacity(manifest: Manifest, capacity: int | None) -> None:
    """Raises EngineTooLarge for tokens per slot that the model has no positions for."""
    context = manifest.sizes.context
    if capacity is not None and not 2 <= capacity <= context:
        raise EngineTooLarge(f"capacity must be in [2, {context}], the model's context, not {capacity}")


@dataclass(frozen=True, slots=True)
class CachePlan:
    """slots: KV slots; rows: how many of them run at once; capacity: tokens per slot."""

    slots: int
    rows: int
    capacity: int

    @classmethod
    def fit(
        cls, manifest: Manifest, free_bytes: int, rows: int | None, capacity: int | None, *, own: bool = False
    ) -> "CachePlan":
        """Choose what is None. own: the bytes are this engine's share, which nobody else has use for.

        Raises EngineTooLarge naming the number that would fit.
        """
        check_capacity(manifest, capacity)
        tokens = capacity or min(manifest.sizes.context, _CAPACITY)
        per_slot = tokens * manifest.kv.bytes_per_token(manifest.sizes.layers)
        room = free_bytes if rows is not None or own else int(free_bytes * _SHARE)
        fitting = room // per_slot
        wanted = min(_SLOTS, fitting * 8 // 9) if rows is None else rows
        slots = slots_for(wanted)
        if wanted < 1 or slots > fitting:
            raise EngineTooLarge(
                f"{max(1, wanted)} rows of {tokens} tokens need {max(2, slots) * per_slot:,} bytes, "
                f"{free_bytes:,} are {'left of its share' if own else 'free'}: at most {fitting * 8 // 9} "
                "rows fit; ask for less"
            )
        return cls(slots, wanted, tokens)
