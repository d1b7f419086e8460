"""Batch sizes that decode steps are captured for: few graphs, little padding."""


def decode_buckets(slots: int) -> tuple[int, ...]:
    """1, 2, 4, 8, then steps of 8 to 64 and of 32 beyond, up to `slots`, which is always the last."""
    sizes = [1, 2, 4, *range(8, 64, 8), *range(64, slots, 32)]
    return (*(size for size in sizes if size < slots), slots)


def bucket_for(rows: int, buckets: tuple[int, ...]) -> int:
    """The smallest bucket that holds `rows`. Raises ValueError when none does."""
    for size in buckets:
        if size >= rows:
            return size
    raise ValueError(f"{rows} rows do not fit the largest bucket, {buckets[-1]}")
