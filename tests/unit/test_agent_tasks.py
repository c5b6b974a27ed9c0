"""Agents' requests: a provisional password, once each; agents may know what came of it (R09)."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import delete, select, update

from shared import agent_tasks
from shared.agent_tasks import Answer, Kind, OtherTaskError, Task
from shared.models import (
    Account,
    AgentTask,
    AuditEntry,
    Credential,
    CredentialState,
    Message,
    Person,
    Route,
)
from shared.people import PersonData, seal_person
from shared.rules import Channel
from shared.sessions import Session
from shared.store import Store
from tests.letters import messages
from tests.store import CAISSE, NUMBER, OWNER, FakeClock, add_account, execute, log_in

DAY = timedelta(days=1)
TASK = Task("nims-1", Kind.PASSWORD, CAISSE, NUMBER, "perdu")
FIRST = Task("nims-1", Kind.FIRST_LETTERS, CAISSE, NUMBER, None)


def do(store: Store, task: Task = TASK) -> Answer:
    return agent_tasks.do(store, task, "nims")


def again(store: Store, name: str = "nims-2") -> Answer:
    return do(store, replace(TASK, id=name))


def pending(store: Store) -> list[Credential]:
    with store.database.read() as transaction:
        waiting = Credential.state == CredentialState.PENDING
        return list(transaction.scalars(select(Credential).where(waiting)))


def count(store: Store) -> tuple[int, int]:
    """Give how many messages and answered tasks there are."""
    with store.database.read() as transaction:
        return len(messages(store)), len(transaction.scalars(select(AgentTask)).all())


@pytest.mark.parametrize(
    ("mobile", "route", "template"),
    [(OWNER, Route.SMS, "password"), (None, Route.LETTER, "letter-password")],
)
def test_a_provisional_password_goes_by_sms_else_by_post(
    store: Store, clock: FakeClock, mobile: str | None, route: Route, template: str
) -> None:
    add_account(store, mobile=mobile)
    assert do(store) is Answer.DONE
    [message] = messages(store)
    assert (message.route, message.template) == (route, template)
    [credential] = pending(store)
    assert (credential.origin, credential.provisional) == ("agent", True)
    assert credential.expires_at == clock() + 61 * DAY


def test_the_old_password_stays_until_the_new_one_is_used(store: Store) -> None:
    """D03."""
    add_account(store)
    do(store)
    assert isinstance(log_in(store), Session)


def test_a_repeated_request_is_done_once(store: Store, clock: FakeClock) -> None:
    add_account(store)
    assert do(store) is Answer.DONE
    clock.advance(3 * DAY)
    assert do(store) is Answer.DONE
    assert count(store) == (1, 1)


@pytest.mark.parametrize(
    "other",
    [
        replace(TASK, number="7654321"),
        replace(TASK, caisse="92"),
        replace(TASK, kind=Kind.FIRST_LETTERS),
        replace(TASK, reason=None),
    ],
    ids=["number", "caisse", "kind", "reason"],
)
def test_another_request_with_the_same_id_is_refused(store: Store, other: Task) -> None:
    add_account(store)
    do(store)
    with pytest.raises(OtherTaskError):
        do(store, other)
    assert count(store) == (1, 1)


def _unknown(store: Store) -> None:
    execute(store, lambda t: t.execute(update(Account).values(number="1111111")))


def _closed(store: Store) -> None:
    execute(store, lambda t: t.execute(update(Account).values(closed_at=store.clock())))


def _asked_today(store: Store) -> None:
    assert again(store) is Answer.DONE


@pytest.mark.parametrize(
    ("before", "answer"),
    [
        (_unknown, Answer.UNKNOWN_ACCOUNT),
        (_closed, Answer.UNKNOWN_ACCOUNT),
        (_asked_today, Answer.TOO_OFTEN),
    ],
)
def test_what_changes_nothing(
    store: Store, before: Callable[[Store], None], answer: Answer
) -> None:
    add_account(store)
    before(store)
    left = count(store)[0]
    assert do(store) is answer
    assert do(store) is answer
    assert count(store)[0] == left


def test_after_the_cut_over_nothing_is_sent(store: Store) -> None:
    """D10: the password would open nothing."""
    add_account(store)
    over = replace(store, rules=store.rules.model_copy(update={"transition": ()}))
    assert do(over) is Answer.TELEPHONE_CLOSED
    assert messages(store) == []


def test_a_letter_under_way_holds_up_no_sms(store: Store, clock: FakeClock) -> None:
    """A mobile came on file meanwhile."""
    account_id = add_account(store, mobile=None)
    do(store)
    clock.advance(DAY)
    with store.database.write() as transaction:
        person = transaction.scalars(select(Person).where(Person.account_id == account_id)).one()
        for column, value in seal_person(store.keys, person.id, PersonData(mobile=OWNER)).items():
            setattr(person, column, value)
    assert again(store) is Answer.DONE
    assert {message.route for message in messages(store)} == {Route.LETTER, Route.SMS}


def test_one_a_day(store: Store, clock: FakeClock) -> None:
    add_account(store)
    do(store)
    clock.advance(DAY - timedelta(seconds=1))
    assert again(store, "nims-2") is Answer.TOO_OFTEN
    clock.advance(timedelta(seconds=1))
    assert again(store, "nims-3") is Answer.DONE
    assert len(pending(store)) == 1  # the newer one took its place (D03)


def test_a_letter_under_way_is_not_repeated_for_ten_days(store: Store, clock: FakeClock) -> None:
    """D03."""
    add_account(store, mobile=None)
    do(store)
    clock.advance(10 * DAY - timedelta(seconds=1))
    assert again(store, "nims-2") is Answer.LETTER_UNDER_WAY
    clock.advance(timedelta(seconds=1))
    assert again(store, "nims-3") is Answer.DONE


def test_the_audit_names_the_task(store: Store) -> None:
    account_id = add_account(store)
    do(store)
    with store.database.read() as transaction:
        entry = transaction.scalars(select(AuditEntry)).one()
    assert (entry.event, entry.channel, entry.account_id, entry.actor) == (
        "password-issued",
        Channel.AGENT,
        account_id,
        "nims:nims-1",
    )


def test_no_number_is_shown(store: Store) -> None:
    assert NUMBER not in repr(TASK)


def test_a_first_claim_on_paper_gets_two_letters(store: Store) -> None:
    """R25, though a mobile is on file."""
    add_account(store)
    execute(store, lambda t: t.execute(delete(Credential)))
    assert do(store, FIRST) is Answer.DONE
    assert [(message.route, message.template) for message in messages(store)] == [
        (Route.LETTER, "letter-identifier"),
        (Route.LETTER, "letter-password"),
    ]
    [credential] = pending(store)
    assert (credential.origin, credential.provisional) == ("registration", True)
    assert do(store, replace(FIRST, id="nims-2")) is Answer.HAS_PASSWORD
    assert len(messages(store)) == 2


def test_who_has_a_password_gets_no_first_letters(store: Store) -> None:
    add_account(store)
    assert do(store, FIRST) is Answer.HAS_PASSWORD
    assert messages(store) == []


def test_a_repeated_first_letter_is_queued_once(store: Store) -> None:
    add_account(store, password=None)
    assert [do(store, FIRST), do(store, FIRST)] == [Answer.DONE, Answer.DONE]
    assert len(messages(store)) == 2


def test_what_the_message_keeps_is_sealed(store: Store) -> None:
    add_account(store, password=None)
    do(store, FIRST)
    with store.database.read() as transaction:
        for message in transaction.scalars(select(Message)):
            assert NUMBER.encode() not in (message.content_sealed or b"")
