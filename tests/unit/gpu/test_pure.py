"""The parts of the GPU runtime that need no device: numbers in, numbers or a refusal out."""

from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.errors import DeviceNotFound, EngineFolderError, EngineTooLarge, GpuFailed, GpuLost, StepHung
from engines.manifest import Profile
from engines.serve.runtime.trt.buckets import bucket_for, decode_buckets
from engines.serve.runtime.trt.buffers import Sizes
from engines.serve.runtime.trt.choice import choose_device
from engines.serve.runtime.trt.chunks import prefill_launches
from engines.serve.runtime.trt.faults import fault
from engines.serve.runtime.trt.layout import CacheLayout, aligned, row_stride
from engines.serve.runtime.trt.memory import GpuMemoryPlan, Needs
from engines.serve.runtime.trt.watchdog import wait_until

UUIDS = ["GPU-5f3c0000-1111-2222-3333-444455556666", "GPU-5f3d0000-1111-2222-3333-444455556666"]


@given(st.integers(1, 600))
def test_every_batch_has_a_bucket_that_wastes_little(slots):
    buckets = decode_buckets(slots)
    assert list(buckets) == sorted(set(buckets))
    assert buckets[-1] == slots
    for rows in range(1, slots + 1):
        size = bucket_for(rows, buckets)
        assert rows <= size <= min(slots, max(2 * rows, rows + 7), rows + 31)
    with pytest.raises(ValueError, match=str(slots)):
        bucket_for(slots + 1, buckets)


layouts = st.builds(
    CacheLayout,
    layers=st.integers(1, 4),
    heads=st.integers(1, 4),
    capacity=st.integers(1, 8).map(lambda n: 16 * n),
    width=st.sampled_from([8, 16, 64, 576]),
    itemsize=st.sampled_from([2, 4]),
)


@given(layouts, st.integers(1, 9), st.data())
def test_slots_tile_a_cache_without_gap_or_overlap(layout, slots, data):
    assert [layout.offset(s + 1) - layout.offset(s) for s in range(slots)] == [layout.slot_bytes] * slots
    assert all(layout.offset(s) % 256 == 0 for s in range(slots))
    length = data.draw(st.integers(0, layout.capacity))
    assert layout.prefix_words(length) * 16 == length * layout.width * layout.itemsize <= layout.head_bytes
    assert (
        layout.slot_bytes_everywhere
        == 2 * layout.layers * layout.heads * layout.capacity * layout.token_bytes
    )
    assert len(set(layout.names)) == 2 * layout.layers


@pytest.mark.parametrize(
    ("layout", "problem"),
    [((1, 1, 64, 7, 2), "14 bytes per token"), ((1, 1, 3, 16, 2), "slot of 3 tokens takes 96 bytes")],
)
def test_a_layout_that_cannot_be_bound_is_refused(layout, problem):
    with pytest.raises(EngineFolderError, match=problem):
        CacheLayout(*layout)


@given(st.integers(1, 200_000), st.integers(0, 300))
def test_logits_of_every_slot_begin_where_tensorrt_can_write(vocabulary, slot):
    assert slot * row_stride(vocabulary) * vocabulary * 4 % 256 == 0


@given(st.integers(0, 10**12))
def test_aligned_is_the_next_multiple(size):
    assert 0 <= aligned(size) - size < 256
    assert aligned(size) % 256 == 0


prefills = st.lists(st.tuples(st.integers(1, 60), st.integers(0, 60)), min_size=1, max_size=9)


@given(prefills, st.integers(1, 32), st.integers(1, 9))
def test_launches_compute_every_token_once_in_order_and_inside_the_slot(rows, chunk, most):
    lengths, starts = map(list, zip(*rows, strict=True))
    done = dict.fromkeys(range(len(rows)), 0)
    for launch in prefill_launches(lengths, starts, chunk=chunk, rows=most, capacity=120):
        assert 1 <= launch.width <= chunk
        assert len(launch.pieces) <= most
        for row, (begin, stop) in enumerate(launch.pieces, launch.first):
            assert begin == done[row] < stop <= begin + launch.width
            assert starts[row] + begin + launch.width <= 120
            done[row] = stop
    assert done == dict(enumerate(lengths))


def test_rows_of_like_length_are_computed_together():
    launches = prefill_launches([10, 12, 12], [0, 3, 0], chunk=16, rows=8, capacity=64)
    assert [len(launch.pieces) for launch in launches] == [3]


def test_a_row_beyond_its_slot_is_refused():
    with pytest.raises(ValueError, match="9 tokens from position 60"):
        prefill_launches([9], [60], chunk=16, rows=8, capacity=64)


sizes = st.integers(0, 40 << 30)


@given(
    st.builds(Needs, sizes, sizes, st.integers(1, 4 << 30), sizes, st.integers(1, 20)),
    sizes,
    sizes,
    st.integers(1, 99),
    st.none() | st.floats(0.01, 1.0),
)
def test_a_memory_plan_adds_up_and_never_overcommits(needs, free, others, most, share):
    fit = partial(GpuMemoryPlan.fit, needs, total=free + others, free=free, most_slots=most, share=share)
    try:
        plan = fit()
    except EngineTooLarge:
        with pytest.raises(EngineTooLarge):
            fit(rows=1)
        return
    parts = plan.others + plan.weights + plan.workspace + plan.buffers + plan.graphs + plan.left
    assert parts + plan.slots * plan.per_slot == plan.total
    assert plan.left > 0
    assert plan.total - plan.others - plan.left <= (share or 1.0) * plan.total
    assert 1 <= plan.slots <= most
    assert fit(rows=plan.slots) == plan
    with pytest.raises(EngineTooLarge, match=f"ask for {plan.slots} or fewer"):
        fit(rows=plan.slots + 1)


def test_a_memory_plan_reads_like_a_sentence():
    needs = Needs(weights=1 << 30, workspace=1 << 28, per_slot=1 << 27, fixed=1 << 26, graphs=4)
    plan = GpuMemoryPlan.fit(needs, total=8 << 30, free=6 << 30, most_slots=16)
    assert "others 2.00 GiB, weights 1.00 GiB, workspace 0.25 GiB" in str(plan)
    assert "16 slots of 0.12 GiB" in str(plan)


def test_sizes_hold_what_is_staged():
    prefill = Profile(name="prefill", batch=(1, 1, 8), tokens=(1, 64, 64), logit_positions=(1, 1, 1))
    of = Sizes.of(4, 151_552, CacheLayout(2, 2, 64, 64, 2), prefill)
    assert (of.rows, of.chunk, of.words) == (4, 64, 4736)
    assert of.logits == 4 * 151_552 * 4
    assert of.prefill >= 2 * 8 * 4 * 64


@pytest.mark.parametrize(
    ("wanted", "index"),
    [(None, 0), (1, 1), ("1", 1), (UUIDS[1], 1), ("gpu-5F3D", 1), ("5f3c", 0), (" 0 ", 0)],
)
def test_a_gpu_is_chosen_by_index_or_uuid(wanted, index):
    assert choose_device(wanted, UUIDS) == index


@pytest.mark.parametrize(
    ("wanted", "problem"),
    [
        (2, "no device is '2'"),
        ("GPU-5f3", "more than one"),
        ("abc", "no device"),
        ("", "no device"),
        (-1, "no device"),
    ],
)
def test_an_unknown_gpu_is_refused_with_those_there_are(wanted, problem):
    with pytest.raises(DeviceNotFound, match=f"{problem}.*0: {UUIDS[0]}, 1: {UUIDS[1]}"):
        choose_device(wanted, UUIDS)
    with pytest.raises(DeviceNotFound, match="no CUDA device is visible"):
        choose_device(wanted, [])


def test_the_watchdog_waits_until_done_or_late():
    now, answers = [0.0], iter([False, False, True])

    def sleep(seconds):
        now[0] += seconds

    wait_until(lambda: next(answers), 1.0, clock=lambda: now[0], sleep=sleep)
    assert 0 < now[0] < 1
    with pytest.raises(StepHung, match=r"after 0\.5 s"):
        wait_until(lambda: False, 0.5, clock=lambda: now[0], sleep=sleep)
    assert 0.5 < now[0] < 0.51


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("cuEventQuery failed: an illegal memory access was encountered", GpuFailed),
        ("cuEventQuery failed: uncorrectable ECC error encountered", GpuFailed),
        ("cuLaunchKernel failed: unspecified launch failure", GpuFailed),
        ("cuMemcpyHtoDAsync failed: invalid device context", GpuFailed),
        ("cuMemAlloc failed: out of memory", EngineTooLarge),
        ("cuCtxCreate failed: CUDA-capable device(s) is/are busy or unavailable", GpuLost),
        ("cuInit failed: no CUDA-capable device is detected", GpuLost),
        ("cuEventQuery failed: unknown error", GpuLost),
        ("", GpuFailed),
    ],
)
def test_a_cuda_error_is_told_in_one_line(text, kind):
    error = fault(RuntimeError(text), "GPU 0", "decoding")
    assert type(error) is kind
    assert str(error).startswith("GPU 0 ")
    assert "decoding" in str(error)
    assert "\n" not in str(error)


def test_the_exit_code_of_a_failed_gpu_is_its_own():
    assert {kind.exit_code for kind in (GpuFailed, GpuLost, StepHung)} == {74}
