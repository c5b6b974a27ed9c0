"""What ends a password, told many times at once by several processes."""

from concurrent.futures import ThreadPoolExecutor

from sqlalchemy import func, select

from shared import life_cycle
from shared.credentials import Refusal
from shared.database import Database
from shared.life_cycle import Key, MoveRefusedError, UnknownAccountError
from shared.models import Account, AuditEntry, Credential, Message
from shared.origin import Origin
from shared.rules import Channel
from shared.sessions import Session
from shared.store import Store
from tests.store import CAISSE, NUMBER, add_account, log_in

ADMIN = Origin(Channel.ADMIN)
HOME = Key(CAISSE, NUMBER)
AT_ONCE = 4


def count(store: Store, *criteria: object) -> int:
    with store.database.read() as transaction:
        counted = select(func.count()).select_from(Credential).where(*criteria)  # type: ignore[arg-type]
        return transaction.scalars(counted).one()


def test_a_separation_told_at_once_is_done_once(store: Store) -> None:
    add_account(store)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(lambda _: life_cycle.separate(store, HOME, ADMIN), range(AT_ONCE)))
    assert count(store, Credential.state == "pending") == 1
    with store.database.read() as transaction:
        events = transaction.scalars(select(AuditEntry.event)).all()
        messages = transaction.scalars(select(Message.state)).all()
    assert sorted(events) == ["password-issued", "separation"]
    assert messages == ["queued"]


def test_revocations_at_once_leave_one_password(store: Store) -> None:
    add_account(store)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(
            pool.map(lambda _: life_cycle.revoke(store, HOME, ADMIN, reissue=True), range(AT_ONCE))
        )
    assert count(store, Credential.state != "ended") == 1


def test_moves_to_several_places_at_once_go_to_one(store: Store) -> None:
    add_account(store)
    targets = [Key("92", f"000000{place}") for place in range(AT_ONCE)]

    def move(target: Key) -> bool:
        try:
            life_cycle.move(store, HOME, target, ADMIN)
        except UnknownAccountError:
            return False
        return True

    with ThreadPoolExecutor(AT_ONCE) as pool:
        moved = list(pool.map(move, targets))
    assert moved.count(True) == 1
    with store.database.read() as transaction:
        opened = transaction.scalars(
            select(Account.number).where(Account.closed_at.is_(None))
        ).all()
    assert opened == [targets[moved.index(True)].number]


def test_moves_of_several_to_one_place_at_once_let_one_in(store: Store) -> None:
    sources = [Key(CAISSE, f"000000{place}") for place in range(AT_ONCE)]
    for source in sources:
        add_account(store, source.number, mobile=None)

    def move(source: Key) -> bool:
        try:
            life_cycle.move(store, source, Key("92", NUMBER), ADMIN)
        except MoveRefusedError:
            return False
        return True

    with ThreadPoolExecutor(AT_ONCE) as pool:
        moved = list(pool.map(move, sources))
    assert moved.count(True) == 1
    for source, gone in zip(sources, moved, strict=True):
        opened = log_in(store, number=source.number, caller_id=None)
        assert opened is Refusal.REFUSED if gone else isinstance(opened, Session)


def test_logins_beside_a_revocation_open_nothing_after_it(store: Store, url: str) -> None:
    add_account(store)
    other = Store(Database(url), store.keys, store.rules, store.hasher, store.clock)
    try:
        with ThreadPoolExecutor(AT_ONCE + 1) as pool:
            logins = [pool.submit(log_in, other) for _ in range(AT_ONCE)]
            pool.submit(life_cycle.revoke, store, HOME, ADMIN, reissue=False).result(20)
            opened = [login.result(20) for login in logins]
        assert log_in(other) is Refusal.REFUSED
        for session in opened:
            if isinstance(session, Session):
                assert session.account_epoch == 0  # raised since: it opens nothing
    finally:
        other.close()
