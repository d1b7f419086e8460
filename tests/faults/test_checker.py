"""A checker that cannot fail is worth nothing: every promise broken by hand, and found."""

from dataclasses import replace

import pytest

from tests.faults.checker import check
from tests.faults.history import Asked, History, Ran, Report, Streamed, Told


@pytest.fixture
def sound():
    """Four requests, one key, all as it should be: a redelivered tool call, deltas of two attempts."""
    history = History(declared={"book": "idempotent", "charge": "once", "reserve": "reconciled"})
    history.undoable = frozenset({"reserve"})
    for offset, name in enumerate("abcd"):
        history.asked.append(Asked((0, offset), b"k", name))
        history.told.append(Told((1, 10 + offset), b"k", name, f"requests/0/{offset}/0", "ok"))
        history.seen.add((1, 10 + offset))
    history.told[1] = replace(history.told[1], attempt=2, reports=(Report("book", "ok"),))
    history.ran += [Ran("book", "K1", "b", event) for event in ("began", "began", "acted")]
    history.told[2] = replace(history.told[2], reports=(Report("charge", "ok"),))
    history.ran += [Ran("charge", "K2", "c", event) for event in ("began", "acted")]
    history.streamed += [Streamed((1, 5 + n), "b", 1, n) for n in range(3)]
    history.streamed += [Streamed((1, 8 + n), "b", 2, n) for n in range(2)]
    history.asked.append(Asked((0, 9), b"p", "poison"))
    history.told.append(Told((0, 0), b"p", "poison", "requests/0/9/0", "rejected"))
    history.letters, history.poisoned = ["poison"], ["poison"]
    return history


def kinds(history):
    return [violation.kind for violation in check(history)]


def test_a_sound_history_has_no_violations(sound):
    assert check(sound) == []


def test_a_lost_reply(sound):
    del sound.told[3]
    sound.seen.remove((1, 13))
    assert kinds(sound) == ["lost"]


@pytest.mark.parametrize("reply_id", ["requests/0/0/0", "requests/0/0/1"])
def test_a_second_reply(sound, reply_id):
    sound.told.append(replace(sound.told[0], place=(1, 20), reply_id=reply_id))
    assert kinds(sound) == ["duplicated"]


def test_a_request_written_twice_is_answered_twice(sound):
    sound.asked.append(Asked((0, 4), b"k", "a"))
    assert kinds(sound) == ["lost"]
    sound.told.append(replace(sound.told[0], place=(1, 20)))
    assert kinds(sound) == ["duplicated"]  # both replies answer the same record
    sound.told[-1] = replace(sound.told[-1], reply_id="requests/0/4/0")
    assert kinds(sound) == []


def test_at_least_once_may_repeat_a_reply_but_not_make_another(sound):
    sound.exactly_once = False
    sound.told.append(replace(sound.told[0], place=(1, 20)))
    assert kinds(sound) == []
    sound.told[-1] = replace(sound.told[-1], reply_id="requests/0/7/0")
    assert kinds(sound) == ["duplicated"]


def test_at_least_once_loses_nothing_either(sound):
    sound.exactly_once = False
    del sound.told[0]
    assert "lost" in kinds(sound)


def test_a_reply_of_another_status(sound):
    sound.expected = {"a": "ok", "poison": "rejected"}
    assert kinds(sound) == []
    sound.told[0] = replace(sound.told[0], status="error")
    assert kinds(sound) == ["status"]


def test_only_who_was_called_off_may_be_told_so(sound):
    sound.expected = {"a": "ok"}
    sound.told[0] = replace(sound.told[0], status="cancelled")
    assert kinds(sound) == ["status"]
    sound.called_off = {"a"}
    assert kinds(sound) == []


def test_a_reply_to_nothing(sound):
    sound.told.append(Told((0, 30), None, "z", "requests/0/30/0", "ok"))
    assert kinds(sound) == ["invented"]


def test_replies_out_of_order(sound):
    sound.told[0], sound.told[3] = (
        replace(sound.told[0], place=sound.told[3].place),
        replace(sound.told[3], place=sound.told[0].place),
    )
    assert kinds(sound) == ["order"]


@pytest.mark.parametrize("status", ["expired", "cancelled"])
def test_who_waits_in_vain_is_told_so_before_its_turn(sound, status):
    sound.told[3] = replace(sound.told[3], place=(1, 9), status=status)
    sound.seen.add((1, 9))
    sound.seen.remove((1, 13))
    assert kinds(sound) == []


def test_order_does_not_hold_between_keys(sound):
    sound.asked[3] = replace(sound.asked[3], key=b"other")
    sound.told[3] = replace(sound.told[3], key=b"other", place=(1, 0))
    sound.seen = set()
    assert kinds(sound) == []


def test_replies_of_a_key_on_two_partitions(sound):
    sound.told[0] = replace(sound.told[0], place=(0, 10))
    sound.seen = set()
    assert kinds(sound) == ["order"]


def test_an_aborted_reply_that_was_read(sound):
    sound.seen.add((1, 99))
    assert kinds(sound) == ["aborted"]


def test_two_deliveries_under_one_attempt_number(sound):
    sound.streamed[3] = replace(sound.streamed[3], attempt=1)
    assert kinds(sound) == ["attempt"]


def test_a_reply_that_names_an_attempt_which_others_went_beyond(sound):
    sound.told[1] = replace(sound.told[1], attempt=1)
    assert set(kinds(sound)) == {"attempt"}


def test_a_delta_after_its_reply(sound):
    sound.streamed[4] = replace(sound.streamed[4], place=(1, 40))
    assert kinds(sound) == ["attempt"]


def test_a_call_whose_key_changed(sound):
    sound.ran += [Ran("book", "K9", "b", event) for event in ("began", "acted")]
    assert kinds(sound) == ["tool"]


def test_a_key_of_two_calls(sound):
    sound.ran = [replace(ran, key="K1") for ran in sound.ran]
    assert kinds(sound) == ["tool"]


def test_a_call_that_never_happened(sound):
    sound.ran = [ran for ran in sound.ran if ran.tool != "book"]
    assert kinds(sound) == ["tool"]


def test_what_must_happen_once_happened_twice(sound):
    sound.ran.append(Ran("charge", "K2", "c", "began"))
    assert kinds(sound) == ["tool"]


def test_an_unknown_outcome_must_be_told(sound):
    sound.ran.remove(Ran("charge", "K2", "c", "acted"))
    assert "tool" in kinds(sound)
    unknown = replace(sound.told[2], status="error", reports=(Report("charge", "unknown"),), attempt=2)
    sound.expected = {"c": "ok"}
    sound.told[2] = unknown
    assert kinds(sound) == []
    sound.told[2] = replace(unknown, status="ok")
    assert kinds(sound) == ["status"]
    # Nobody died on the way: who should not know?
    sound.told[2] = replace(unknown, attempt=1)
    assert kinds(sound) == ["tool"]


def test_a_tool_that_may_run_again_is_never_in_doubt(sound):
    sound.told[1] = replace(sound.told[1], status="error", reports=(Report("book", "unknown"),))
    assert "tool" in kinds(sound)
    # Unless nobody wants it any more, who would run it again to know.
    sound.told[1] = replace(sound.told[1], status="cancelled")
    assert kinds(sound) == []


def test_a_call_that_changes_nothing_may_be_forgotten_by_who_calls_off(sound):
    sound.declared["look"] = "read_only"
    sound.ran.append(Ran("look", "K9", "d", "began"))
    assert set(kinds(sound)) == {"tool"}
    sound.told[3] = replace(sound.told[3], status="cancelled")
    assert kinds(sound) == []


@pytest.fixture
def undone(sound):
    """Request d reserved something, which was undone when it failed."""
    sound.told[3] = replace(sound.told[3], status="expired", reports=(Report("reserve", "compensated"),))
    events = ("began", "began", "acted", "undoing", "undoing", "undone")
    sound.ran += [Ran("reserve", "K4", "d", event) for event in events]
    return sound


def test_what_was_undone_is_sound(undone):
    assert kinds(undone) == []


def test_what_can_be_asked_about_acts_once(undone):
    undone.ran.insert(-3, Ran("reserve", "K4", "d", "acted"))
    assert kinds(undone) == ["tool"]


def test_what_can_be_asked_about_is_known(undone):
    undone.told[3] = replace(undone.told[3], status="ok", reports=(Report("reserve", "error"),))
    undone.ran = [ran for ran in undone.ran if ran.event not in ("undoing", "undone")]
    assert kinds(undone) == ["tool"]


def test_what_failed_and_still_stands(undone):
    undone.ran = [ran for ran in undone.ran if ran.event != "undone"]
    assert set(kinds(undone)) == {"tool"}


def test_what_was_undone_and_is_not_told(undone):
    undone.told[3] = replace(undone.told[3], reports=(Report("reserve", "ok"),))
    assert kinds(undone) == ["tool"]


def test_what_was_undone_though_all_went_well(undone):
    undone.told[3] = replace(undone.told[3], status="ok")
    assert kinds(undone) == ["tool"]


def test_what_ran_again_after_it_was_undone(undone):
    undone.ran.append(Ran("reserve", "K4", "d", "began"))
    assert kinds(undone) == ["tool"]


def test_a_reply_told_again_to_a_duplicate_reports_no_second_call(undone):
    undone.asked.append(Asked((0, 5), b"k", "d"))
    undone.told.append(replace(undone.told[3], place=(1, 30), reply_id="requests/0/5/0", again=True))
    assert kinds(undone) == []
    undone.told[-1] = replace(undone.told[-1], again=False)
    assert set(kinds(undone)) == {"tool"}


@pytest.mark.parametrize("letters", [[], ["poison", "poison"], ["poison", "a"]])
def test_dead_letters(sound, letters):
    sound.letters = letters
    assert kinds(sound) == ["dead letter"]


def test_a_daemon_that_died(sound):
    sound.deaths.append("daemon 3 ended with status 1")
    assert kinds(sound) == ["death"]
