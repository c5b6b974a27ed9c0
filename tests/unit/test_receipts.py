"""Receipts by the names that a provider gave the SMS of a message, in whatever order they come."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from functools import partial
from itertools import permutations
from threading import Barrier, Event
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import func, select

from shared import outbox, receipts, retention
from shared.models import MessageState, SentPart
from shared.outbox import Claim, Report, Result
from shared.store import Store
from tests.gateway import by_name, message, queue
from tests.store import FakeClock

NAMES = ("a1", "a2", "a3")
DELIVERED, UNDELIVERED = MessageState.DELIVERED, MessageState.UNDELIVERED


def claim(store: Store) -> Claim:
    [claimed] = outbox.claim(store, "smpp", by_name, 1)
    return claimed


def accept(store: Store, claimed: Claim, names: tuple[str, ...] = NAMES) -> None:
    outbox.finish(store, claimed, Report(Result.ACCEPTED, "", names[-1], names), 0)


def tell(store: Store, name: str, state: MessageState = DELIVERED) -> bool:
    """Say whether the attempt is known that is told of."""
    return outbox.part_receipt(store, "smpp", name, state) is not None


def state(store: Store, message_id: UUID) -> str:
    return message(store, message_id).state


def parts(store: Store) -> int | None:
    with store.database.read() as transaction:
        return transaction.scalar(select(func.count()).select_from(SentPart))


TOLD: dict[str, tuple[Sequence[MessageState], MessageState]] = {
    "nothing": ([], MessageState.ACCEPTED),
    "two of three": ([DELIVERED, DELIVERED], MessageState.ACCEPTED),
    "all three": ([DELIVERED] * 3, DELIVERED),
    "the last did not arrive": ([DELIVERED, DELIVERED, UNDELIVERED], UNDELIVERED),
    "one did not arrive": ([UNDELIVERED], UNDELIVERED),
    "on their way": ([MessageState.ACCEPTED] * 3, MessageState.ACCEPTED),
}


@pytest.mark.parametrize(("told", "end"), TOLD.values(), ids=TOLD)
@pytest.mark.parametrize("early", range(4))
def test_a_long_message_is_there_once_all_of_it_is(
    store: Store, told: Sequence[MessageState], end: MessageState, early: int
) -> None:
    """Some, all or none of the receipts come before our own commit."""
    message_id = queue(store)
    claimed = claim(store)
    pairs = list(zip(NAMES, told, strict=False))
    assert not any(tell(store, *pair) for pair in pairs[:early])
    accept(store, claimed)
    assert all(tell(store, *pair) for pair in pairs[early:])
    assert state(store, message_id) == end


@pytest.mark.parametrize("order", [*permutations([DELIVERED, UNDELIVERED, MessageState.ACCEPTED])])
def test_the_first_final_state_of_a_part_stays(store: Store, order: Sequence[MessageState]) -> None:
    message_id = queue(store)
    accept(store, claim(store), ("a1",))
    for one in [*order, *order]:
        tell(store, "a1", one)
    [first, *_] = [one for one in order if one is not MessageState.ACCEPTED]
    assert state(store, message_id) == first


@pytest.mark.parametrize("later", [UNDELIVERED, MessageState.ACCEPTED])
@pytest.mark.parametrize("early", [False, True])
def test_a_part_that_arrived_has_arrived(store: Store, later: MessageState, *, early: bool) -> None:
    message_id = queue(store)
    claimed = claim(store)
    if not early:
        accept(store, claimed, ("a1", "a2"))
    tell(store, "a1")
    tell(store, "a1", later)
    if early:
        accept(store, claimed, ("a1", "a2"))
    assert state(store, message_id) == MessageState.ACCEPTED
    tell(store, "a2")
    assert state(store, message_id) == DELIVERED


def test_a_name_given_again_means_the_newer_message(store: Store) -> None:
    """SMSCs count round."""
    older, claimed = queue(store), claim(store)
    accept(store, claimed, ("a1",))
    tell(store, "a1", UNDELIVERED)
    newer, claimed = queue(store), claim(store)
    accept(store, claimed, ("a1",))
    assert state(store, newer) == MessageState.ACCEPTED
    tell(store, "a1")
    assert (state(store, older), state(store, newer)) == (UNDELIVERED, DELIVERED)


def test_names_are_their_provider_s(store: Store) -> None:
    message_id = queue(store)
    accept(store, claim(store), ("a1",))
    assert outbox.part_receipt(store, "other", "a1", DELIVERED) is None
    assert state(store, message_id) == MessageState.ACCEPTED


def test_a_receipt_of_a_dispatcher_that_lost_its_lease_is_kept(
    store: Store, clock: FakeClock
) -> None:
    message_id = queue(store)
    claimed = claim(store)
    clock.advance(timedelta(seconds=store.rules.outbox.lease_seconds))
    outbox.recover(store)
    assert state(store, message_id) == MessageState.UNCERTAIN
    accept(store, claimed, ("a1",))
    tell(store, "a1")
    assert state(store, message_id) == DELIVERED


def test_a_report_kept_twice_forgets_no_receipt(store: Store) -> None:
    """The database may go away after the commit and before we hear of it."""
    message_id = queue(store)
    claimed = claim(store)
    accept(store, claimed)
    tell(store, "a1")
    accept(store, claimed)
    tell(store, "a2")
    tell(store, "a3")
    assert state(store, message_id) == DELIVERED


def test_what_is_known_of_parts_goes_with_their_message(store: Store, clock: FakeClock) -> None:
    """D16; a receipt that nobody waits for stays no longer."""
    queue(store)
    accept(store, claim(store))
    tell(store, "a1")
    tell(store, "nobody's")
    days = timedelta(days=store.rules.retention.message_days)
    clock.advance(days)
    retention.tidy(store)
    assert parts(store) == 4
    clock.advance(timedelta(seconds=1))
    retention.tidy(store)
    assert parts(store) == 0


def test_of_two_receipts_at_once_the_later_sees_the_other(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first has counted the parts that arrived, and not yet committed its own."""
    message_id = queue(store)
    accept(store, claim(store), ("a1", "a2"))
    counted, second_counted, count = Event(), Event(), receipts.fate

    def stop_after_counting(*of_attempt: Any) -> MessageState:
        found = count(*of_attempt)
        if counted.is_set():
            second_counted.set()
        else:
            counted.set()
            second_counted.wait(1)  # in vain, if the second waits for us
        return found

    monkeypatch.setattr("shared.receipts.fate", stop_after_counting)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(tell, store, "a1")
        assert counted.wait(30)
        second = pool.submit(tell, store, "a2")
        assert (first.result(30), second.result(30)) == (True, True)
    assert state(store, message_id) == DELIVERED


@pytest.mark.parametrize("_again", range(5))
def test_receipts_and_our_own_commit_at_once(store: Store, _again: int) -> None:
    """Whoever is last sees what all others told."""
    message_id = queue(store)
    claimed = claim(store)
    barrier = Barrier(2 * len(NAMES) + 1)

    def at_once(act: Callable[[], object]) -> None:
        barrier.wait(30)
        act()

    acts: list[Callable[[], object]] = [partial(accept, store, claimed)]
    acts += [partial(tell, store, name) for name in NAMES * 2]
    with ThreadPoolExecutor(len(acts)) as pool:
        for done in [pool.submit(at_once, act) for act in acts]:
            done.result(60)
    assert state(store, message_id) == DELIVERED
