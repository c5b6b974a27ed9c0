"""Requests that come twice have one effect and one answer."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from threading import Event

import pytest
from sqlalchemy import func, select, update

from shared import idempotency
from shared.errors import SealError, StoreDownError
from shared.idempotency import KEPT, LEASE, Answer, KeyReusedError, Request, UnderWayError
from shared.models import IdempotentRequest
from shared.retention import tidy
from shared.store import Store
from tests.store import FakeClock, execute

REQUEST = Request("site-web", "k" * 16, "POST /v1/logins 83927415")
ANSWER = Answer(201, b'{"session":"mine"}')
INSTANT = timedelta(microseconds=1)


class Deed:
    """Counts how often it is done."""

    def __init__(self, answer: Answer = ANSWER) -> None:
        self.done = 0
        self.answer = answer

    def __call__(self) -> Answer:
        self.done += 1
        return self.answer


def kept(store: Store) -> IdempotentRequest:
    with store.database.read() as transaction:
        return transaction.scalars(select(IdempotentRequest)).one()


def test_repeated_it_gets_the_same_answer(store: Store) -> None:
    deed = Deed()
    assert idempotency.once(store, REQUEST, deed) == ANSWER
    assert idempotency.once(store, REQUEST, deed) == ANSWER
    assert deed.done == 1


def test_an_empty_answer_is_an_answer(store: Store) -> None:
    deed = Deed(Answer(204, b""))
    idempotency.once(store, REQUEST, deed)
    assert idempotency.once(store, REQUEST, deed) == Answer(204, b"")
    assert deed.done == 1


def test_the_key_is_for_one_request_only(store: Store) -> None:
    idempotency.once(store, REQUEST, Deed())
    other = Request(REQUEST.client, REQUEST.key, REQUEST.content + " ")
    with pytest.raises(KeyReusedError):
        idempotency.once(store, other, pytest.fail)


def test_the_key_is_of_one_client_only(store: Store) -> None:
    idempotency.once(store, REQUEST, Deed())
    theirs = Answer(201, b"theirs")
    other = Request("kiosks", REQUEST.key, REQUEST.content)
    assert idempotency.once(store, other, Deed(theirs)) == theirs
    assert idempotency.once(store, REQUEST, pytest.fail) == ANSWER


def test_while_it_is_done_it_is_not_done_again(store: Store) -> None:
    def act() -> Answer:
        with pytest.raises(UnderWayError):
            idempotency.once(store, REQUEST, pytest.fail)
        return ANSWER

    assert idempotency.once(store, REQUEST, act) == ANSWER


def test_what_failed_of_our_doing_may_be_repeated(store: Store) -> None:
    def fail() -> Answer:
        raise StoreDownError

    with pytest.raises(StoreDownError):
        idempotency.once(store, REQUEST, fail)
    assert idempotency.once(store, REQUEST, Deed()) == ANSWER


def test_who_died_in_the_middle_loses_the_lease(store: Store, clock: FakeClock) -> None:
    """The late answer of the one who was only slow does not replace the newer one."""
    newer = Answer(201, b"newer")

    def slow() -> Answer:
        clock.advance(LEASE - INSTANT)
        with pytest.raises(UnderWayError):
            idempotency.once(store, REQUEST, pytest.fail)
        clock.advance(INSTANT)
        assert idempotency.once(store, REQUEST, Deed(newer)) == newer
        return ANSWER

    assert idempotency.once(store, REQUEST, slow) == ANSWER
    assert idempotency.once(store, REQUEST, pytest.fail) == newer


def test_who_lost_the_lease_gives_nothing_free(store: Store, clock: FakeClock) -> None:
    """The slow one fails while another does the request: the reservation is the other's now."""
    slow_begun, newer_begun = Event(), Event()

    def slow() -> Answer:
        slow_begun.set()
        assert newer_begun.wait(10)
        raise StoreDownError

    def newer() -> Answer:
        newer_begun.set()
        assert isinstance(failed.exception(10), StoreDownError)
        with pytest.raises(UnderWayError):
            idempotency.once(store, REQUEST, pytest.fail)
        return ANSWER

    with ThreadPoolExecutor(1) as pool:
        failed = pool.submit(idempotency.once, store, REQUEST, slow)
        assert slow_begun.wait(10)
        clock.advance(LEASE)
        assert idempotency.once(store, REQUEST, newer) == ANSWER


def test_answers_are_sealed_to_their_request(store: Store) -> None:
    idempotency.once(store, REQUEST, Deed())
    row = kept(store)
    assert row.answer_sealed is not None
    assert b"mine" not in row.answer_sealed
    assert b"83927415" not in row.request_mac
    execute(store, lambda t: t.execute(update(IdempotentRequest).values(client="kiosks")))
    with pytest.raises(SealError):
        idempotency.once(store, Request("kiosks", REQUEST.key, REQUEST.content), pytest.fail)


def test_answers_are_kept_for_a_day(store: Store, clock: FakeClock) -> None:
    idempotency.once(store, REQUEST, Deed())
    count = select(func.count()).select_from(IdempotentRequest)
    for wait, left in ((KEPT - INSTANT, 1), (INSTANT, 0)):
        clock.advance(wait)
        tidy(store)
        with store.database.read() as transaction:
            assert transaction.scalar(count) == left
