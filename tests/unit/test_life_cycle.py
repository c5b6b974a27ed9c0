"""Separation, move and revocation end a password at once (R08, D03)."""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from uuid import UUID

import pytest
from sqlalchemy import select

from shared import life_cycle, outbox, resets, sessions
from shared.credentials import Login, Refusal, set_secret, verify
from shared.errors import SessionEndedError
from shared.life_cycle import Key, MoveRefusedError, UnknownAccountError
from shared.models import Account, AuditEntry, Credential, Message, Person, WebAccount
from shared.origin import Origin
from shared.people import PersonData, open_person, seal_person
from shared.resets import request_password
from shared.rules import Channel
from shared.secret import Secret
from shared.sessions import Session
from shared.store import Store
from tests.store import (
    CAISSE,
    NUMBER,
    OWNER,
    PASSWORD,
    CountingHasher,
    FakeClock,
    add_account,
    execute,
    log_in,
    open_session,
)

CODE = "4826"
UNKNOWN = Key(CAISSE, "9999999")
HOME = Key(CAISSE, NUMBER)
ABROAD = Key("92", "7654321")
ADMIN = Origin(Channel.ADMIN)
HOUR = timedelta(hours=1)


def credentials_of(store: Store, account_id: UUID) -> list[tuple[str, ...]]:
    with store.database.read() as transaction:
        rows = transaction.scalars(
            select(Credential)
            .where(Credential.account_id == account_id)
            .order_by(Credential.created_at, Credential.kind)
        )
        return [(row.kind, row.state, row.origin, row.ended_by or "") for row in rows]


def waiting(store: Store) -> list[str]:
    """Give the passwords in messages that wait, the oldest first."""
    with store.database.read() as transaction:
        rows = transaction.scalars(
            select(Message).where(Message.state == "queued").order_by(Message.created_at)
        )
        return [json.loads(outbox.opened(store, row, "content"))["password"] for row in rows]


def events(store: Store) -> list[str]:
    with store.database.read() as transaction:
        return list(transaction.scalars(select(AuditEntry.event).order_by(AuditEntry.id)))


def is_over(store: Store, session: Session) -> bool:
    with store.database.read() as transaction:
        try:
            sessions.account_of(store, transaction, session)
        except SessionEndedError:
            return True
    return False


def separate(store: Store, key: Key) -> None:
    life_cycle.separate(store, key, ADMIN)


def revoke(store: Store, key: Key) -> None:
    life_cycle.revoke(store, key, ADMIN, reissue=False)


def revoke_and_reissue(store: Store, key: Key) -> None:
    life_cycle.revoke(store, key, ADMIN, reissue=True)


def move(store: Store, key: Key) -> None:
    life_cycle.move(store, key, ABROAD, ADMIN)


ENDINGS = {
    "separation": (separate, "separation"),
    "revocation": (revoke, "revoked"),
    "revocation with a new one": (revoke_and_reissue, "revoked"),
    "move": (move, "mutation"),
}
End = Callable[[Store, Key], None]
every_ending = pytest.mark.parametrize(("end", "why"), ENDINGS.values(), ids=ENDINGS)


@every_ending
def test_password_code_and_pending_ones_end_at_once(
    store: Store, clock: FakeClock, end: End, why: str
) -> None:
    account_id = add_account(store)
    set_secret(store, CAISSE, NUMBER, Secret(CODE))
    clock.advance(HOUR)
    request_password(store, CAISSE, NUMBER, Origin(Channel.VOICE, OWNER))
    [pending] = waiting(store)
    clock.advance(HOUR)
    end(store, HOME)
    for secret in (PASSWORD, CODE, pending):
        assert log_in(store, secret) is Refusal.REFUSED
    assert credentials_of(store, account_id)[:3] == [
        ("code", "ended", "given", why),
        ("password", "ended", "given", why),
        ("password", "ended", "forgotten", why),
    ]
    assert pending not in waiting(store)  # and is not sent any more


@every_ending
def test_sessions_end_at_once(store: Store, end: End, why: str) -> None:
    add_account(store)
    session = open_session(store)
    end(store, HOME)
    assert is_over(store, session), why


@every_ending
def test_a_login_under_way_is_refused(
    store: Store, hasher: CountingHasher, end: End, why: str
) -> None:
    add_account(store)
    hasher.meanwhile = lambda: end(store, HOME)
    assert log_in(store) is Refusal.REFUSED, why


@every_ending
def test_an_unknown_dossier_is_told(store: Store, end: End, why: str) -> None:
    add_account(store)
    before = events(store)
    with pytest.raises(UnknownAccountError) as raised:
        end(store, UNKNOWN)
    assert UNKNOWN.number not in str(raised.value), why
    assert events(store) == before
    assert waiting(store) == []


@every_ending
def test_it_is_audited(store: Store, end: End, why: str) -> None:
    add_account(store)
    end(store, HOME)
    assert {
        "separation": "separation",
        "revoked": "password-revoked",
        "mutation": "account-moved",
    }[why] in events(store)


@pytest.mark.parametrize(
    ("end", "origin"),
    [(separate, "separation"), (revoke_and_reissue, "agent")],
    ids=["separation", "revocation"],
)
def test_a_provisional_password_takes_its_place(
    store: Store, clock: FakeClock, end: End, origin: str
) -> None:
    """R09: two months."""
    account_id = add_account(store)
    clock.advance(HOUR)
    end(store, HOME)
    [sent] = waiting(store)
    assert isinstance(log_in(store, sent), Session)
    assert credentials_of(store, account_id)[-1] == ("password", "active", origin, "")
    with store.database.read() as transaction:
        new = transaction.scalars(select(Credential).where(Credential.state == "active")).one()
    assert new.provisional
    assert new.expires_at == clock.now + timedelta(days=61)


def test_a_revocation_sends_nothing_unless_asked(store: Store) -> None:
    add_account(store)
    revoke(store, HOME)
    revoke(store, HOME)
    assert waiting(store) == []


def test_a_separation_told_twice_is_done_once(store: Store, clock: FakeClock) -> None:
    account_id = add_account(store)
    separate(store, HOME)
    [sent] = waiting(store)
    clock.advance(HOUR)
    separate(store, HOME)
    assert waiting(store) == [sent]
    assert isinstance(log_in(store, sent), Session)
    clock.advance(HOUR)
    separate(store, HOME)  # another one
    assert log_in(store, sent) is Refusal.REFUSED
    assert [row[1] for row in credentials_of(store, account_id)] == ["ended", "ended", "pending"]


def test_after_the_cut_over_nothing_is_sent(store: Store, clock: FakeClock) -> None:
    """D10: it would open nothing."""
    add_account(store)
    lines = [line.model_copy(update={"until": clock.now + HOUR}) for line in store.rules.transition]
    store = replace(store, rules=store.rules.model_copy(update={"transition": tuple(lines)}))
    clock.advance(HOUR)
    separate(store, HOME)
    assert waiting(store) == []
    assert "separation" in events(store)


# A move to another caisse


def household(store: Store) -> UUID:
    """Give the dossier a conjoint with a delegation, and an account without NIR on the web."""
    account_id = add_account(store)
    conjoint = Person(
        id=UUID(int=7), account_id=account_id, role="conjoint", delegated_at=store.clock()
    )
    data = PersonData(surname="Martin", nir="2850578006084", email="a@example.org")
    for column, value in seal_person(store.keys, conjoint.id, data).items():
        setattr(conjoint, column, value)
    execute(store, lambda transaction: transaction.add(conjoint))
    return account_id


def persons(store: Store, key: Key) -> dict[str, tuple[Person, PersonData]]:
    with store.database.read() as transaction:
        rows = transaction.scalars(
            select(Person)
            .join(Account, Account.id == Person.account_id)
            .where(Account.caisse == key.caisse, Account.number == key.number)
        ).all()
    return {row.role: (row, open_person(store.keys, row)) for row in rows}


def account(store: Store, key: Key) -> Account:
    with store.database.read() as transaction:
        return transaction.scalars(
            select(Account).where(Account.caisse == key.caisse, Account.number == key.number)
        ).one()


def test_the_household_moves_with_what_is_known_of_it(store: Store) -> None:
    household(store)
    before = persons(store, HOME)
    move(store, HOME)
    after = persons(store, ABROAD)
    assert {role: data for role, (_, data) in after.items()} == {
        role: data for role, (_, data) in before.items()
    }
    assert after["conjoint"][0].delegated_at == before["conjoint"][0].delegated_at
    assert after["conjoint"][0].nir_index == before["conjoint"][0].nir_index
    assert after["conjoint"][0].id != before["conjoint"][0].id


def test_the_new_dossier_has_a_provisional_password_of_its_own(store: Store) -> None:
    add_account(store)
    move(store, HOME)
    [sent] = waiting(store)
    new = account(store, ABROAD)
    assert credentials_of(store, new.id) == [("password", "pending", "mutation", "")]
    login = Login(ABROAD.caisse, ABROAD.number, Secret(sent))
    opened = verify(store, login, Origin(Channel.VOICE, OWNER))
    assert isinstance(opened, Session)
    assert opened.account_id == new.id


def test_the_old_dossier_is_kept_and_opened_by_nothing(store: Store, clock: FakeClock) -> None:
    account_id = add_account(store)
    move(store, HOME)
    old = account(store, HOME)
    assert (old.id, old.closed_at, old.moved_to) == (
        account_id,
        clock.now,
        account(store, ABROAD).id,
    )
    sent = waiting(store)
    request_password(store, CAISSE, NUMBER, Origin(Channel.VOICE, OWNER))
    assert waiting(store) == sent
    for end in (separate, revoke):
        with pytest.raises(UnknownAccountError):
            end(store, HOME)


def test_a_web_account_without_nir_follows_its_person(store: Store) -> None:
    """R20: it hangs on the person's row."""
    account_id = add_account(store)
    with store.database.read() as transaction:
        person_id = transaction.scalars(
            select(Person.id).where(Person.account_id == account_id)
        ).one()
    on_web = WebAccount(id=UUID(int=9), person_id=person_id, created_at=store.clock())
    execute(store, lambda transaction: transaction.add(on_web))
    move(store, HOME)
    with store.database.read() as transaction:
        followed = transaction.get_one(WebAccount, UUID(int=9)).person_id
    assert followed == persons(store, ABROAD)["allocataire"][0].id


def test_a_move_told_twice_is_made_once(store: Store, clock: FakeClock) -> None:
    add_account(store)
    move(store, HOME)
    sent = waiting(store)
    clock.advance(HOUR)
    move(store, HOME)
    assert waiting(store) == sent
    assert events(store).count("account-moved") == 1


def test_a_move_that_was_cut_off_before_its_password_is_finished(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_account(store)

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(resets, "issue", killed)
        with pytest.raises(KeyboardInterrupt):
            move(store, HOME)
    assert waiting(store) == []
    move(store, HOME)
    assert len(waiting(store)) == 1


@pytest.mark.parametrize(
    "new",
    [Key("92", "765432"), Key("99", "7654321"), HOME],
    ids=["6 digits", "no caisse", "itself"],
)
def test_a_move_to_what_can_be_no_new_dossier_is_refused(store: Store, new: Key) -> None:
    add_account(store)
    with pytest.raises(MoveRefusedError):
        life_cycle.move(store, HOME, new, ADMIN)
    assert isinstance(log_in(store), Session)


def test_a_move_onto_another_dossier_is_refused(store: Store) -> None:
    add_account(store)
    add_account(store, "7654321")
    with pytest.raises(MoveRefusedError):
        life_cycle.move(store, HOME, Key(CAISSE, "7654321"), ADMIN)
    assert isinstance(log_in(store), Session)
