"""What is left out of collections is found again before it may go."""

import gc
import weakref

from daemon import heap


class Ring:
    def __init__(self) -> None:
        self.itself = self


def test_what_goes_after_it_was_taken_in_again_is_collected():
    before, after = Ring(), Ring()
    found = [weakref.ref(before), weakref.ref(after)]
    try:
        heap.settle()
        del before
        gc.collect()
        assert found[0]() is not None
    finally:
        heap.unsettle()
    del after
    gc.collect()
    assert [ref() for ref in found] == [None, None]
