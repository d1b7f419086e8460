"""One record per key at a time, in the order they came."""

from hypothesis import given, settings
from hypothesis import strategies as st

from daemon.kafka.order import KeyOrder
from daemon.kafka.record import Incoming


def record(offset: int, key: bytes | None) -> Incoming:
    return Incoming("t", 0, offset, key, b"", (), 0)


@settings(deadline=None)
@given(st.lists(st.sampled_from([b"a", b"b", b"c", None]), max_size=40), st.data())
def test_records_of_a_key_run_in_order_and_never_together(keys, data):
    order = KeyOrder(unordered=False)
    for offset, key in enumerate(keys):
        order.add(record(offset, key))
    running: list[Incoming] = []
    ended: list[Incoming] = []
    while order.runnable or running:
        if order.runnable and (not running or data.draw(st.booleans())):
            running.append(order.next())
            keyed = [one.key for one in running if one.key is not None]
            assert len(keyed) == len(set(keyed))
        else:
            ended.append(running.pop(data.draw(st.integers(0, len(running) - 1))))
            order.done(ended[-1])
    assert order.waiting == 0
    assert len(ended) == len(keys)
    for key in (b"a", b"b", b"c"):
        offsets = [one.offset for one in ended if one.key == key]
        assert offsets == sorted(offsets)


def test_unordered_waits_for_nobody():
    order = KeyOrder(unordered=True)
    for offset in range(3):
        order.add(record(offset, b"same"))
    assert [order.next().offset for _ in range(3)] == [0, 1, 2]
