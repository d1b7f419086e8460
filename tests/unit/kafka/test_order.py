"""One record per key at a time, in the order they came."""

from hypothesis import given, settings
from hypothesis import strategies as st

from daemon.kafka.intake.order import KeyOrder
from daemon.kafka.intake.waiting import Waiting
from daemon.kafka.record import Incoming


def waiting(offset: int, key: bytes | None = None, unordered: bool = False, **headers: bytes) -> Waiting:
    record = Incoming("t", 0, offset, key, b"", tuple(headers.items()), 0)
    return Waiting.of(record, unordered=unordered)


@settings(deadline=None)
@given(st.lists(st.sampled_from([b"a", b"b", b"c", None]), max_size=40), st.data())
def test_records_of_a_key_run_in_order_and_never_together(keys, data):
    order = KeyOrder()
    for offset, key in enumerate(keys):
        order.add(waiting(offset, key))
    running: list[Waiting] = []
    ended: list[Waiting] = []
    resting: list[Waiting] = []
    aside: list[Waiting] = []  # withdrawn
    while order.waiting or running:
        step = data.draw(st.integers(0, 9))
        if resting and (step == 0 or not (order.runnable or running)):
            order.again(resting.pop())
        elif running and step == 1:
            resting.append(running.pop())
            order.rest(resting[-1])
        elif order.waiting and step == 2:
            aside.append(data.draw(st.sampled_from(list(order))))
            order.withdraw(aside[-1])
            resting = [one for one in resting if one is not aside[-1]]
            order.done(aside[-1])
        elif order.runnable and (not running or data.draw(st.booleans())):
            running.append(order.next())
            held = [*running, *resting]
            keyed = [one.order for one in held if one.order is not None]
            assert len(keyed) == len(set(keyed))
        else:
            ended.append(running.pop(data.draw(st.integers(0, len(running) - 1))))
            order.done(ended[-1])
    assert order.waiting == 0
    assert len(ended) + len(aside) == len(keys)
    assert not order.resting
    for key in (b"a", b"b", b"c"):
        offsets = [one.record.offset for one in ended if one.order == key]
        assert offsets == sorted(offsets)


def test_unordered_waits_for_nobody():
    order = KeyOrder()
    for offset in range(3):
        order.add(waiting(offset, b"same", unordered=True))
    assert [order.next().record.offset for _ in range(3)] == [0, 1, 2]


def test_the_higher_priority_is_served_first_but_never_before_its_own_key():
    order = KeyOrder()
    order.add(waiting(0, b"a"))
    order.add(waiting(1, b"a", priority=b"9"))
    order.add(waiting(2, b"b", priority=b"5"))
    order.add(waiting(3, b"c", priority=b"-1"))
    served = []
    while order.runnable:
        served.append(order.next())
        order.done(served[-1])
    assert [one.record.offset for one in served] == [2, 0, 1, 3]


def test_tenants_take_turns_by_weight_however_much_one_sends():
    order = KeyOrder({"gold": 2.0})
    for offset in range(30):
        order.add(waiting(offset, tenant=b"greedy"))
    for offset in range(30, 36):
        order.add(waiting(offset, tenant=b"gold"))
    for offset in range(36, 39):
        order.add(waiting(offset, tenant=b"modest"))
    first = [order.next().tenant for _ in range(12)]
    assert (first.count("gold"), first.count("modest"), first.count("greedy")) == (6, 3, 3)
    # Who comes later has saved nothing up, and who was served much owes nothing.
    order.add(waiting(39, tenant=b"late"))
    order.add(waiting(40, tenant=b"late"))
    assert [order.next().tenant for _ in range(4)].count("late") == 2


def test_who_sends_a_lot_has_its_turns_however_many_new_tenants_come():
    order = KeyOrder()
    for offset in range(50):
        order.add(waiting(offset, tenant=b"steady"))
    for number in range(3):
        order.add(waiting(100 + number, tenant=b"new%d" % number))
    served = []
    for number in range(3, 103):
        served.append(order.next().tenant)
        if served[-1] != "steady":
            order.add(waiting(100 + number, tenant=b"new%d" % number))
    assert 20 <= served.count("steady") <= 30  # one of four that wait


def test_the_tenant_is_the_header_else_the_user_else_the_key():
    def tenant(value: bytes, **headers: bytes) -> str:
        return Waiting.of(Incoming("t", 0, 0, b"k", value, tuple(headers.items()), 0)).tenant

    assert tenant(b'{"user_id": "u"}', tenant=b"acme") == "acme"
    assert tenant(b'{"user_id": "u"}') == "u"
    assert tenant(b'{"user_id": 3}') == "k"
    assert tenant(b"\xff[[[") == "k"
