"""Codes and notices by mail, from the request until they are read (R12, R13, R15, R20, R23)."""

import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import select

from shared import provisional, recovery
from shared.life_cycle import Key
from shared.models import Message, MessageState, Route
from shared.recovery import Claim
from shared.secret import Secret
from shared.sessions import Session
from shared.store import Store
from sms.providers.smtp import Security, SmtpPace, SmtpProvider, SmtpSettings
from sms.templates import Templates
from tests.gateway import MoodyProvider, dispatching, until
from tests.mail_server import MailServer, Taken, cuts, mail_server
from tests.store import CAISSE, NUMBER, FakeClock
from tests.web import CLAIRE, HOLDER, MAIL, add_dossier, make_web_account, sent, web

CLAIM = Claim(HOLDER, "Lefèvre", Route.MAIL)
MINUTE, SECOND = timedelta(minutes=1), timedelta(seconds=1)
LIFE = 15 * MINUTE  # R15
REPEAT_WAIT = timedelta(minutes=2)  # D19
PATIENT = SmtpPace(ready=30, answer=30)


@pytest.fixture
async def server() -> AsyncIterator[MailServer]:
    async with mail_server() as server:
        yield server


@asynccontextmanager
async def mailing(store: Store, server: MailServer) -> AsyncIterator[None]:
    settings = SmtpSettings(
        "127.0.0.1",
        "ne-pas-repondre@caf.example",
        port=server.port,
        security=Security.NONE,
        own_name="svi.example",
        pace=PATIENT,
    )
    async with dispatching(store, SmtpProvider(settings, store.clock)):
        yield


async def delivered(store: Store, server: MailServer) -> Taken:
    """Give the only mail that arrives, once the outbox knows that it did."""
    async with mailing(store, server):
        await until(lambda: set(states(store)) == {(Route.MAIL, MessageState.ACCEPTED)})
    [taken] = server.taken
    return taken


def messages(store: Store) -> Iterator[Message]:
    with store.database.read() as transaction:
        yield from transaction.scalars(select(Message).order_by(Message.created_at)).all()


def states(store: Store) -> list[tuple[str, str]]:
    return [(message.route, message.state) for message in messages(store)]


def code_in(mail: Taken) -> Secret:
    """Read the code as its owner does, and key it without the space."""
    found = re.search(r"est : (\d{3}) (\d{3})\n", mail.text)
    assert found is not None
    return Secret("".join(found.groups()))


@pytest.mark.parametrize(("after", "good"), [(LIFE - SECOND, True), (LIFE, False)])
async def test_a_code_by_mail_is_good_for_15_minutes(
    store: Store, clock: FakeClock, server: MailServer, after: timedelta, good: bool
) -> None:
    add_dossier(store)
    code_id = recovery.request(store, CLAIM, web())
    mail = await delivered(store, server)
    assert mail.recipients == [MAIL]
    assert mail.mail["Subject"] == "Votre code de vérification"
    assert "valable 15 minutes" in mail.text
    clock.advance(after)
    opened = recovery.verify(store, code_id, code_in(mail), web())
    assert isinstance(opened, Session) is good


async def test_what_arrives_is_what_the_templates_say(store: Store, server: MailServer) -> None:
    add_dossier(store)
    recovery.request(store, CLAIM, web())
    expected = Templates.load(route=Route.MAIL).render("code", sent(store)[0].content).text
    mail = await delivered(store, server)
    assert mail.text == expected
    assert "é" in mail.text


async def test_a_mail_that_arrived_leaves_nothing_behind(store: Store, server: MailServer) -> None:
    """D12, D16."""
    add_dossier(store)
    recovery.request(store, CLAIM, web())
    await delivered(store, server)
    [message] = messages(store)
    assert message.provider == "smtp"
    assert message.provider_id == f"<{message.id}@caf.example>"
    assert (message.content_sealed, message.text_sealed, message.destination_sealed) == (None,) * 3


async def test_a_code_too_old_to_be_sent_is_not_sent(
    store: Store, clock: FakeClock, server: MailServer
) -> None:
    add_dossier(store)
    recovery.request(store, CLAIM, web())
    clock.advance(LIFE)
    async with mailing(store, server):
        await until(lambda: states(store) == [(Route.MAIL, MessageState.EXPIRED)])
    assert server.asked == []


async def test_without_a_mail_server_a_mail_ends_with_its_life(
    store: Store, clock: FakeClock
) -> None:
    """The SMS's dispatcher sees to that, and takes no mail itself."""
    add_dossier(store)
    recovery.request(store, CLAIM, web())
    recovery.request(store, replace(CLAIM, route=Route.SMS), web())
    provider = MoodyProvider()
    async with dispatching(store, provider):
        await until(lambda: (Route.SMS, MessageState.ACCEPTED) in states(store))
        assert (Route.MAIL, MessageState.QUEUED) in states(store)
        clock.advance(LIFE)
        await until(lambda: (Route.MAIL, MessageState.EXPIRED) in states(store))
    assert [asked.destination for asked in provider.asked] == [CLAIRE.mobile]
    assert all(message.content_sealed is None for message in messages(store))


async def test_each_route_has_its_own_dispatcher(store: Store, server: MailServer) -> None:
    add_dossier(store)
    recovery.request(store, CLAIM, web())
    recovery.request(store, replace(CLAIM, route=Route.SMS), web())
    by_sms = MoodyProvider()
    async with dispatching(store, by_sms), mailing(store, server):
        await until(lambda: {state for _, state in states(store)} == {MessageState.ACCEPTED})
    [asked] = by_sms.asked
    assert (asked.destination, asked.subject) == (CLAIRE.mobile, "")
    assert asked.text.reveal().startswith("Caf : votre code est")
    [taken] = server.taken
    assert taken.recipients == [MAIL]


async def test_a_repeat_is_known_by_its_message_id(
    store: Store, clock: FakeClock, server: MailServer
) -> None:
    """D19: the server took the first, but could not say so; it is sent once more, never again."""
    add_dossier(store)
    recovery.request(store, CLAIM, web())
    server.tempers["DATA"] = cuts
    async with mailing(store, server):
        await until(lambda: states(store) == [(Route.MAIL, MessageState.UNCERTAIN)])
        clock.advance(REPEAT_WAIT)
        await until(lambda: len(server.taken) == 2)
        await until(lambda: next(messages(store)).state == MessageState.UNCERTAIN)
        clock.advance(REPEAT_WAIT)
        await until(lambda: states(store) == [(Route.MAIL, MessageState.LOST)])
    first, second = server.taken
    assert first.mail["Message-ID"] == second.mail["Message-ID"]
    assert first.text == second.text


async def test_the_account_that_was_made_is_announced_by_mail(
    store: Store, server: MailServer
) -> None:
    """R23: who has no mobile."""
    add_dossier(store, owner=replace(CLAIRE, mobile=None))
    make_web_account(store)
    mail = await delivered(store, server)
    assert mail.mail["Subject"] == "Votre compte est créé"
    assert "numéro de sécurité sociale" in mail.text


async def test_a_provisional_identifier_comes_by_mail(store: Store, server: MailServer) -> None:
    """R20: to who has no mobile."""
    owner = replace(CLAIRE, nir=None, mobile=None)
    add_dossier(store, owner=owner)
    provisional.request(store, Key(CAISSE, NUMBER), owner, web())
    mail = await delivered(store, server)
    assert mail.mail["Subject"] == "Votre identifiant provisoire"
    assert re.search(r"est : P\d{4} \d{4}\n", mail.text)
