"""Whatever finishes in whatever order, and wherever it is cut off: nothing lost, nothing done handed out."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daemon.kafka.progress.offset_map import MAX_BYTES, MAX_SPAN, Counts, decode, encode
from daemon.kafka.progress.offsets import Mark, Progress

# Distances between delivered offsets: markers of transactions and compaction leave gaps.
GAPS = st.lists(st.integers(1, 5), min_size=1, max_size=60)


def log(gaps: list[int], start: int) -> list[int]:
    offsets = []
    for gap in gaps:
        offsets.append(start + gap - 1)
        start = offsets[-1] + 1
    return offsets


@settings(deadline=None)
@given(st.integers(0, 2**40), GAPS, st.data())
def test_a_crash_anywhere_loses_nothing_and_repeats_nothing_committed(start, gaps, data):
    offsets = log(gaps, start)
    committed: set[int] = set()
    mark = Mark(start)
    for life in range(1, 40):
        progress, counts = Progress.restore(mark)
        assert counts == Counts(life - 1, life // 2)
        handed_out = [offset for offset in offsets if offset >= mark.offset and progress.take(offset)]
        assert handed_out == [offset for offset in offsets if offset not in committed]
        mark = progress.mark(Counts(life, (life + 1) // 2))
        finished: set[int] = set()
        for offset in data.draw(st.permutations(handed_out)):
            progress.finish(offset)
            finished.add(offset)
            if data.draw(st.booleans()):  # publish and commit
                mark = progress.mark(Counts(life, (life + 1) // 2))
                committed |= finished
            if data.draw(st.integers(0, 7)) == 0:
                break  # crash
        if not handed_out:
            return


COUNT = st.one_of(st.just(0), st.integers(0, 2**32 - 1))


@settings(deadline=None)
@given(st.integers(0, 2**50), st.tuples(*[COUNT] * 3), st.sets(st.integers(1, 3000), max_size=400))
def test_a_map_reads_back_as_it_was_written(offset, numbers, beyond):
    counts = Counts(*numbers)
    runs = as_runs(sorted(offset + number for number in beyond))
    text = encode(offset, counts, runs)
    assert decode(offset, text) == (counts, runs)
    assert len(text) <= MAX_BYTES
    if text:
        assert decode(offset + 1, text) == (Counts(), [])


def as_runs(offsets: list[int]) -> list[tuple[int, int]]:
    runs: list[tuple[int, int]] = []
    for offset in offsets:
        if runs and runs[-1][1] == offset:
            runs[-1] = (runs[-1][0], offset + 1)
        else:
            runs.append((offset, offset + 1))
    return runs


@settings(deadline=None)
@given(
    st.one_of(
        st.text(max_size=200), st.text("oag1rbRB-_ABCxyz09=", max_size=60).map(lambda text: "oag1" + text)
    )
)
def test_foreign_metadata_counts_as_none(text):
    assert decode(7, text) == (Counts(), [])


@settings(deadline=None)
@given(st.sets(st.integers(1, 500), min_size=1, max_size=100), st.integers(0), st.integers(1, 255))
def test_a_damaged_map_is_never_believed(beyond, place, flip):
    text = encode(7, Counts(3, 1), as_runs(sorted(7 + number for number in beyond)))
    place %= len(text)
    damaged = text[:place] + chr(ord(text[place]) ^ flip) + text[place + 1 :]
    # Base64 has unused bits at its end: damage there changes nothing.
    assert decode(7, damaged) in [(Counts(), []), decode(7, text)]


def test_the_worst_map_of_the_allowed_span_fits():
    worst = [(offset, offset + 1) for offset in range(1, MAX_SPAN, 2)]
    assert len(encode(0, Counts(2**32 - 1, 2**32 - 1, 2**32 - 1), worst)) <= MAX_BYTES
    with pytest.raises(ValueError, match="offset map"):
        encode(0, Counts(1), [(offset, offset + 1) for offset in range(1, MAX_SPAN + 300, 2)])


def test_few_long_runs_cost_few_bytes():
    assert len(encode(10**9, Counts(1), [(10**9 + 1, 10**9 + 20_000)])) < 24


def test_intake_stops_before_the_map_overflows_and_goes_on_when_the_oldest_is_done():
    progress = Progress(100)
    for offset in range(100, 100 + MAX_SPAN):
        assert progress.has_room(offset)
        assert progress.take(offset)
    assert not progress.has_room(100 + MAX_SPAN)
    for offset in range(101, 100 + MAX_SPAN, 2):
        progress.finish(offset)
    assert progress.mark().offset == 100
    progress.finish(100)
    assert progress.has_room(100 + MAX_SPAN)
    assert progress.mark().offset == 102


def test_a_far_offset_is_taken_when_nothing_is_in_work():
    progress = Progress(0)
    assert progress.has_room(10**12)
    assert progress.take(10**12)
    progress.finish(10**12)
    assert progress.mark() == Mark(10**12 + 1)


def test_a_record_is_not_taken_twice_nor_finished_twice():
    progress = Progress(5)
    assert not progress.take(4)
    assert progress.take(5)
    assert not progress.take(5)
    progress.finish(5)
    with pytest.raises(KeyError):
        progress.finish(5)
    with pytest.raises(KeyError):
        progress.finish(6)
