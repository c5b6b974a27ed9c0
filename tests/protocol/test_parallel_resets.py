"""Passwords asked for and used at the same instant, by threads and processes (D03, D06)."""

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from threading import Barrier
from uuid import UUID

from sqlalchemy import func, select

from shared import outbox
from shared.models import AuditEntry, Credential, CredentialState, Message, SendAttempt
from shared.origin import Origin
from shared.resets import request_password
from shared.rules import Channel
from shared.sessions import Session
from shared.store import Store
from tests.gateway import by_name
from tests.processes import Place, run_together
from tests.store import CAISSE, NUMBER, STRANGER, FakeClock, add_account, log_in

TOGETHER = 4
MESSAGES = 60


def _ask(store: Store, rank: int = 0, number: str = NUMBER) -> None:
    caller_id = f"+331990000{rank:02}"
    request_password(store, CAISSE, number, Origin(Channel.VOICE, caller_id))


def _in_threads(store: Store, work: Callable[[Store, int], object]) -> None:
    start = Barrier(TOGETHER)

    def begin(rank: int) -> None:
        start.wait()
        work(store, rank)

    with ThreadPoolExecutor(TOGETHER) as pool:
        list(pool.map(begin, range(TOGETHER)))


def _states(store: Store) -> list[str]:
    with store.database.read() as transaction:
        return sorted(transaction.scalars(select(Credential.state)))


def _waiting(store: Store) -> list[str]:
    """Give the passwords in messages that wait."""
    with store.database.read() as transaction:
        found = transaction.scalars(select(Message).where(Message.content_sealed.is_not(None)))
        return [_password(store, message) for message in found]


def _password(store: Store, message: Message) -> str:
    password: str = json.loads(outbox.opened(store, message, "content"))["password"]
    return password


def test_threads_that_ask_at_once_make_one_password(shop: Store) -> None:
    _in_threads(shop, _ask)
    assert _states(shop) == ["active", "pending"]
    assert len(_waiting(shop)) == 1


def test_processes_that_ask_at_once_make_one_password(place: Place, shop: Store) -> None:
    run_together(place, TOGETHER, _ask)
    assert _states(shop) == ["active", "pending"]
    assert len(_waiting(shop)) == 1


def test_a_telephone_in_several_dossiers_gets_three(place: Place, shop: Store) -> None:
    """D06: the count of a telephone number holds across accounts asked for at once."""
    numbers = [f"000000{rank}" for rank in range(8)]
    for number in numbers:
        add_account(shop, number)

    def ask_for_some(store: Store, rank: int) -> None:
        for number in numbers[rank::TOGETHER]:
            _ask(store, number=number)

    run_together(place, TOGETHER, ask_for_some)
    assert len(_waiting(shop)) == 3


def _log_in(secret: str) -> Callable[[Store, int], bool]:
    return lambda store, rank: isinstance(
        log_in(store, secret, caller_id=f"+331990000{rank:02}"), Session
    )


def test_a_new_password_used_at_once_is_promoted_once(place: Place, shop: Store) -> None:
    """Everybody who has it gets in."""
    _ask(shop)
    [new] = _waiting(shop)
    assert run_together(place, TOGETHER, _log_in(new)) == [True] * TOGETHER
    assert _states(shop) == [CredentialState.ACTIVE, CredentialState.ENDED]
    with shop.database.read() as transaction:
        first_uses = select(func.count()).where(AuditEntry.event == "credential-first-used")
        assert transaction.scalar(first_uses) == 1


def test_dispatchers_of_several_processes_share_no_message(place: Place, shop: Store) -> None:
    for rank in range(MESSAGES):
        number = f"10000{rank:02}"
        add_account(shop, number, mobile=f"+336111111{rank:02}")
        _ask(shop, number=number)

    def claim_all(store: Store, _rank: int) -> list[UUID]:
        claimed: list[UUID] = []
        while claims := outbox.claim(store, "file", by_name, 3):
            claimed += [claim.message_id for claim in claims]
        return claimed

    claimed = [each for taken in run_together(place, TOGETHER, claim_all) for each in taken]
    claimed += claim_all(shop, 0)  # held by another when they were looked for
    assert len(claimed) == MESSAGES
    assert len(set(claimed)) == MESSAGES
    with shop.database.read() as transaction:
        assert transaction.scalar(select(func.count()).select_from(SendAttempt)) == MESSAGES


def test_asking_while_dispatching_and_recovering_blocks_nobody(shop: Store) -> None:
    """Locks are taken in one order: nobody waits for another who waits for him."""
    clock = shop.clock
    assert isinstance(clock, FakeClock)

    def churn(store: Store, rank: int) -> None:
        for _ in range(15):
            clock.advance(timedelta(minutes=5))
            _ask(store, rank)
            outbox.claim(store, "file", by_name, 2)
            outbox.recover(store)
            log_in(store, caller_id=STRANGER)

    _in_threads(shop, churn)
    assert _states(shop).count(CredentialState.PENDING) == 1
