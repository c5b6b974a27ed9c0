"""`svi sms retry|cancel|stats`, on both databases, and that what they say is true."""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from click.testing import CliRunner, Result
from sqlalchemy import select, text, update

from shared import message_stats, outbox
from shared.message_stats import Fared, Kind, Outcome, Stats
from shared.models import AuditEntry, LetterRun, Message, MessageState, Priority, Route
from shared.origin import Origin
from shared.outbox import Claim, Report
from shared.resets import Template, request_password
from shared.rules import Channel
from shared.sessions import Session
from shared.store import Store
from svi.__main__ import cli
from svi.service import open_store, prepare_home
from svi.settings import Settings
from tests.gateway import (
    FAST,
    IN_GROUPS,
    LONG,
    MOBILE,
    PASSWORD,
    MoodyProvider,
    dispatching,
    message,
    queue,
    says,
    until,
)
from tests.store import CAISSE, NUMBER, OWNER, add_account, execute, log_in

HOUR = timedelta(hours=1)
ACCEPTED = Report(outbox.Result.ACCEPTED, "201", provider_id="SM1")
FAILED = Report(outbox.Result.RETRY, "20429")
LISTENERS = text(
    "SELECT count(*) FROM pg_stat_activity"
    " WHERE datname = current_database() AND query = 'LISTEN svi_outbox'"
)
DOUBTFUL = Report(outbox.Result.UNCERTAIN, "no-answer")


@pytest.fixture
def store(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    """The store that the commands open, on each database."""
    monkeypatch.setenv("SVI_HOME", str(tmp_path))
    monkeypatch.setenv("SVI_DATABASE_URL", url)
    settings = Settings()
    prepare_home(settings)
    with open_store(settings) as store:
        yield store


def svi(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["sms", *arguments])


def take(store: Store) -> Claim:
    [claimed] = outbox.claim(store, "moody", says(IN_GROUPS), 1)
    return claimed


def report(store: Store, *reports: Report, delay: float = 0) -> None:
    """Try the one message that is due, so often."""
    for one in reports:
        outbox.finish(store, take(store), one, delay)


def waiting(store: Store, template: str = Template.PASSWORD) -> UUID:
    """Queue a message that failed, and waits an hour."""
    message_id = queue(store, template=template)
    report(store, FAILED, delay=3600)
    return message_id


def doubted(store: Store) -> UUID:
    message_id = queue(store)
    report(store, DOUBTFUL)
    return message_id


def repeated(store: Store) -> UUID:
    """Queue a message that is to be sent once more after D19's wait."""
    message_id = doubted(store)
    execute(store, lambda t: t.execute(update(Message).values(next_at=store.clock())))
    outbox.recover(store)
    assert message(store, message_id).repeated
    return message_id


def sending(store: Store) -> UUID:
    message_id = queue(store)
    take(store)
    return message_id


def sent(store: Store) -> UUID:
    message_id = queue(store)
    report(store, ACCEPTED)
    return message_id


def changed(store: Store, **columns: object) -> UUID:
    """Queue a message with other values in these columns."""
    message_id = queue(store)
    statement = update(Message).where(Message.id == message_id).values(**columns)
    execute(store, lambda transaction: transaction.execute(statement))
    return message_id


def letter(store: Store) -> UUID:
    return changed(store, route=Route.LETTER, template=Template.LETTER)


def printed(store: Store) -> UUID:
    """Put a letter into a run."""
    run_id = uuid4()
    execute(store, lambda t: t.add(LetterRun(id=run_id, created_at=store.clock())))
    of_run = {"run_id": run_id, "state": MessageState.SENDING}
    return changed(store, route=Route.LETTER, template=Template.LETTER, **of_run)


def audited(store: Store) -> list[tuple[object, ...]]:
    """Give the audit's rows by which an admin did something about messages (D16)."""
    columns = (
        AuditEntry.event,
        AuditEntry.channel,
        AuditEntry.account_id,
        AuditEntry.subject_id,
        AuditEntry.actor,
    )
    ours = select(*columns).where(AuditEntry.event.like("message%")).order_by(AuditEntry.id)
    with store.database.read() as transaction:
        return [tuple(row) for row in transaction.execute(ours)]


# To try at once


def test_one_that_waits_after_a_failure_is_due_at_once(store: Store) -> None:
    other, message_id = waiting(store), waiting(store)
    retried = svi("retry", str(message_id))
    assert (retried.exit_code, retried.output) == (0, f"{message_id}  à envoyer maintenant\n")
    assert take(store).message_id == message_id
    assert outbox.claim(store, "moody", says(IN_GROUPS), 1) == []
    assert message(store, other).state == MessageState.QUEUED
    assert audited(store) == [("message-hastened", "admin", None, message_id, None)]


def test_all_that_wait_after_a_failure_are_due_at_once(store: Store) -> None:
    failed = {waiting(store), waiting(store)}
    later = changed(store, next_at=store.clock() + HOUR)  # a campaign's, say
    over = waiting(store)
    ended = update(Message).where(Message.id == over).values(expires_at=store.clock())
    execute(store, lambda transaction: transaction.execute(ended))
    doubted(store)
    retried = svi("retry", "--all")
    assert (retried.exit_code, retried.output) == (0, "2 message(s) à envoyer maintenant\n")
    claims = outbox.claim(store, "moody", says(IN_GROUPS), 10)
    assert {claimed.message_id for claimed in claims} == failed
    assert message(store, later).next_at > store.clock()
    assert svi("retry", "--all").output == "0 message(s) à envoyer maintenant\n"
    assert audited(store) == [("messages-hastened", "admin", None, None, "2")]


@pytest.mark.parametrize("url", ["postgresql"], indirect=True)
@pytest.mark.parametrize("how", ["ID", "--all"])
async def test_a_dispatcher_is_woken(store: Store, how: str) -> None:
    """One that would not look by itself."""
    message_id = waiting(store)

    def listens() -> bool:
        with store.database.read() as transaction:
            return bool(transaction.scalar(LISTENERS))

    async with dispatching(store, MoodyProvider(), replace(FAST, poll=10 * LONG)):
        await until(listens)
        svi("retry", str(message_id) if how == "ID" else how)
        await until(lambda: message(store, message_id).state == MessageState.ACCEPTED)


NOT_RETRIED: dict[str, tuple[Callable[[Store], UUID], str]] = {
    "ended": (sent, "terminé (accepted) : son texte est détruit, il faut une nouvelle demande"),
    "a letter": (letter, "une lettre part avec un tirage : svi letters run"),
    "being sent": (sending, "il est en cours d'envoi"),
    "uncertain": (doubted, "peut-être arrivé (D19) ; sans nouvelles il est renvoyé une fois, à 2"),
    "due": (queue, "il est déjà à envoyer"),
    "unknown": (lambda _: uuid4(), "aucun message n'a cet identifiant"),
    "waiting for its hour": (
        lambda store: changed(store, next_at=store.clock() + HOUR),
        "il n'a pas échoué : il attend son heure",
    ),
    "held by a campaign": (
        lambda store: changed(
            store, state=MessageState.HELD, failures=1, next_at=store.clock() + HOUR
        ),
        "il attend son tour : svi campaigns show",
    ),
    "over": (
        lambda store: changed(store, expires_at=store.clock()),
        "sa vie est finie : il faut une nouvelle demande",
    ),
    "uncertain again": (
        lambda store: changed(store, state=MessageState.UNCERTAIN, repeated=True),
        "peut-être arrivé (D19) ; il n'est pas renvoyé",
    ),
    "uncertain, of a campaign": (
        lambda store: changed(store, state=MessageState.UNCERTAIN, priority=Priority.CAMPAIGN),
        "peut-être arrivé (D19) ; il n'est pas renvoyé",
    ),
    "uncertain, and soon over": (
        lambda store: changed(
            store,
            state=MessageState.UNCERTAIN,
            next_at=store.clock() + 2 * HOUR,
            expires_at=store.clock() + HOUR,
        ),
        "peut-être arrivé (D19) ; il n'est pas renvoyé",
    ),
}


@pytest.mark.parametrize(("make", "said"), NOT_RETRIED.values(), ids=NOT_RETRIED)
def test_what_is_not_tried_again_is_said_why(
    store: Store, make: Callable[[Store], UUID], said: str
) -> None:
    """The others that were named are; the command fails."""
    message_id = make(store)
    before = state(store, message_id)
    good = changed(store, failures=1, next_at=store.clock() + HOUR)
    retried = svi("retry", str(message_id), str(good))
    assert retried.exit_code == 1
    refused, done = retried.output.splitlines()
    assert refused.startswith(f"{message_id}  {said}")
    assert done == f"{good}  à envoyer maintenant"
    assert state(store, message_id) == before
    assert [row[3] for row in audited(store)] == [good]


def state(store: Store, message_id: UUID) -> tuple[object, ...]:
    with store.database.read() as transaction:
        columns = (Message.state, Message.next_at, Message.expires_at, Message.ended_at)
        return tuple(transaction.execute(select(*columns).where(Message.id == message_id)).all())


@pytest.mark.parametrize("arguments", [(), ("--all", "0f8b3c0e-6a52-4a0c-9a53-0c6f6f1f2c11")])
def test_it_is_some_or_all(store: Store, arguments: tuple[str, ...]) -> None:
    retried = svi("retry", *arguments)
    assert retried.exit_code == 1
    assert retried.output == "Erreur : donnez un ou plusieurs ID, ou --all\n"


# To take back


def of(template: str) -> Callable[[Store], UUID]:
    return lambda store: waiting(store, template)


NEVER_LEFT = "annulé : il ne partira pas"
MAY_BE_GONE = "peut-être parti ; il n'est plus essayé"
OF_PASSWORD = "; son mot de passe, connu de personne, n'entre jamais en vigueur"
GOOD_IF_THERE = "; s'il arrive, son mot de passe est bon (D03)"
CANCELLED: dict[str, tuple[Callable[[Store], UUID], str]] = {
    "a password": (of("password"), f"{NEVER_LEFT} {OF_PASSWORD}"),
    "a password to an old mobile": (of("password-old-mobile"), f"{NEVER_LEFT} {OF_PASSWORD}"),
    "a password being sent": (sending, f"{MAY_BE_GONE} {GOOD_IF_THERE}"),
    "an uncertain password": (doubted, f"{MAY_BE_GONE} {GOOD_IF_THERE}"),
    "a password to be repeated": (
        repeated,
        f"annulé ; un essai d'avant est peut-être arrivé (D19) {GOOD_IF_THERE}",
    ),
    "a code": (of("code"), f"{NEVER_LEFT} ; son code n'est connu de personne"),
    "a notice": (of("notice.rendez-vous"), NEVER_LEFT),
    "a letter": (letter, f"{NEVER_LEFT} ; une autre n'est écrite qu'après letter_days (D03)"),
}


@pytest.mark.parametrize(("make", "said"), CANCELLED.values(), ids=CANCELLED)
def test_what_taking_back_means_is_said(
    store: Store, make: Callable[[Store], UUID], said: str
) -> None:
    """However it is: it is never tried again."""
    message_id = make(store)
    cancelled = svi("cancel", str(message_id))
    assert (cancelled.exit_code, cancelled.output) == (0, f"{said}\n")
    assert audited(store) == [("message-cancelled", "admin", None, message_id, None)]
    row = message(store, message_id)
    if row.state == MessageState.CANCELLED:
        assert (row.text_sealed, row.content_sealed, row.destination_sealed) == (None,) * 3
    execute(store, lambda t: t.execute(update(Message).values(next_at=store.clock())))
    outbox.recover(store)
    outbox.recover(store)
    assert outbox.claim(store, "moody", says(IN_GROUPS), 1) == []


def test_the_password_in_force_stays_when_a_new_one_is_taken_back(store: Store) -> None:
    """D03; and the request counts: no other is sent at once (D06). The audit says whose it was."""
    account_id = add_account(store)
    origin = Origin(Channel.VOICE, OWNER)
    request_password(store, CAISSE, NUMBER, origin)
    with store.database.read() as transaction:
        [queued] = transaction.scalars(select(Message.id))
    assert OF_PASSWORD in svi("cancel", str(queued)).output
    assert audited(store) == [("message-cancelled", "admin", account_id, queued, None)]
    assert isinstance(log_in(store), Session)
    request_password(store, CAISSE, NUMBER, origin)
    with store.database.read() as transaction:
        assert transaction.scalars(select(Message.id)).all() == [queued]


NOT_CANCELLED: dict[str, tuple[Callable[[Store], UUID], str]] = {
    "ended": (sent, "ce message est terminé (accepted)"),
    "unknown": (lambda _: uuid4(), "aucun message n'a cet identifiant"),
    "with the printer": (printed, "cette lettre est chez l'imprimeur : elle ne revient pas"),
}


@pytest.mark.parametrize(("make", "said"), NOT_CANCELLED.values(), ids=NOT_CANCELLED)
def test_what_can_not_be_taken_back(store: Store, make: Callable[[Store], UUID], said: str) -> None:
    message_id = make(store)
    before = state(store, message_id)
    cancelled = svi("cancel", str(message_id))
    assert (cancelled.exit_code, cancelled.output) == (1, f"Erreur : {said}\n")
    assert state(store, message_id) == before
    assert audited(store) == []


# How they fare


def test_the_statistics_are_by_template_then_by_answer(store: Store) -> None:
    sent(store)
    waiting(store)
    queue(store, template="code")
    lines = svi("stats").output.splitlines()
    assert lines[0] == "sms     code                          1 demandé(s) ░░░░░░░░░░   0%"
    assert lines[1] == "        queued 1 ; 0 essai(s)"
    assert lines[2] == "sms     password                      2 demandé(s) █████░░░░░  50%"
    assert lines[3] == "        accepted 1, queued 1 ; 2 essai(s)"
    assert lines[4].startswith("        pris en 0,")
    assert lines[5] == "moody   accepted 201                  1 essai(s)   █████░░░░░  50%"
    assert lines[6] == "moody   retry 20429                   1 essai(s)   █████░░░░░  50%"


def test_the_statistics_are_json_too(store: Store) -> None:
    delivered = sent(store)
    row = message(store, delivered)
    waiting(store)
    later = {"state": MessageState.DELIVERED, "ended_at": row.created_at + HOUR}
    execute(store, lambda t: t.execute(
        update(Message).where(Message.id == delivered).values(**later)
    ))  # fmt: skip
    password, *outcomes = map(json.loads, svi("stats", "--json").output.splitlines())
    taken = password.pop("accepted_seconds")
    assert taken["p50"] == taken["p95"] > 0
    assert password == {
        "route": "sms",
        "template": "password",
        "asked": 2,
        "states": {"delivered": 1, "queued": 1},
        "tries": 2,
        "delivered_seconds": {"p50": 3600, "p95": 3600},
    }
    assert outcomes == [
        {"provider": "moody", "result": "accepted", "code": "201", "attempts": 1},
        {"provider": "moody", "result": "retry", "code": "20429", "attempts": 1},
    ]


def test_the_statistics_begin_when_they_are_told_to(store: Store) -> None:
    changed(store, created_at=store.clock() - 25 * HOUR)
    assert svi("stats").output == "rien\n"
    assert svi("stats", "--json").output == ""
    assert "queued 1" in svi("stats", "--since", "26h").output
    assert "queued 1" in svi("stats", "--since", "2d").output
    assert svi("stats", "--since", "1d").output == "rien\n"


@pytest.mark.parametrize("since", ["24", "h", "0d", "-1h", "1w", "1.5h", "99999d", "24H", "٣h"])
def test_a_wrong_duration(store: Store, since: str) -> None:
    refused = svi("stats", f"--since={since}")
    assert refused.exit_code == 1
    assert refused.output.startswith("Erreur : --since : ")


def test_nothing_personal_is_shown(store: Store) -> None:
    message_id = waiting(store)
    shown = [svi(*asked).output for asked in (
        ("stats",), ("stats", "--json"), ("retry", str(message_id)), ("cancel", str(message_id)),
    )]  # fmt: skip
    assert all(shown)
    for personal in (MOBILE, MOBILE[3:], PASSWORD, IN_GROUPS):
        assert personal not in "".join(shown)


def test_what_comes_while_it_is_counted_breaks_no_statistics(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Asked for after the messages were counted, and tried before the attempts were."""
    tried = {Kind(Route.SMS, "code"): Fared(tries=1)}
    counted = Stats(tried, {Outcome("smpp", "accepted", ""): 1})
    monkeypatch.setattr(message_stats, "since", lambda *_: counted)
    shown = svi("stats")
    assert shown.exit_code == 0, shown.output
    assert "0 demandé(s)" in shown.output
