"""Mails by a real SMTP server: what arrives there, and what each of its answers means (D19)."""

import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from shared.outbox import Report, Result
from shared.secret import Secret
from sms.provider import Outgoing, ProviderStoppedError
from sms.providers.smtp import Security, SmtpAccount, SmtpPace, SmtpProvider, SmtpSettings
from tests.gateway import LIFE, QUEUED_AT
from tests.mail_server import (
    PASSWORD,
    USER,
    Certificate,
    MailServer,
    Temper,
    certificate,
    cuts,
    cuts_in_the_text,
    hangs,
    mail_server,
    says,
)

MAIL, OTHER_MAIL = "claire@exemple.fr", "hugo.petit+caf@exemple.fr"
SENDER = "ne-pas-repondre@caf.example"
ACCOUNT = SmtpAccount(USER, Secret(PASSWORD))
NOW = datetime(2021, 11, 2, 9, 30, tzinfo=UTC)
PATIENT = SmtpPace(ready=30, answer=30)
MESSAGE_ID = UUID("0f8b3c0e-6a52-4a0c-9a53-0c6f6f1f2c11")
TEXT = "Bonjour,\n\nVotre code à l'été : 012 345 €, « œuvre »\n"
NO, LATER = Result.REFUSED, Result.RETRY
BOTH = pytest.mark.parametrize("security", [Security.STARTTLS, Security.IMPLICIT])


def mail(to: str = MAIL, text: str = TEXT) -> Outgoing:
    return Outgoing(
        uuid4(), to, Secret(text), "Caf", MESSAGE_ID, LIFE, QUEUED_AT, "Votre code de vérification"
    )


def provider(port: int, **settings: object) -> SmtpProvider:
    """Reach a server on loopback, without TLS if nothing else is said."""
    plain = SmtpSettings(
        "127.0.0.1", SENDER, port=port, security=Security.NONE, own_name="svi.example", pace=PATIENT
    )
    return SmtpProvider(replace(plain, **settings), lambda: NOW)  # type: ignore[arg-type]


@asynccontextmanager
async def sending(**settings: object) -> AsyncIterator[tuple[MailServer, SmtpProvider]]:
    async with mail_server() as server:
        yield server, provider(server.port, **settings)


@pytest.fixture
def own(tmp_path: Path) -> Certificate:
    return certificate(tmp_path)


# What arrives


async def arrived(security: Security, own: Certificate) -> MailServer:
    implicit = security is Security.IMPLICIT
    async with mail_server(own.of_server(), implicit=implicit, closed=True) as server:
        sends = provider(server.port, security=security, tls=own.trusted(), account=ACCOUNT)
        report = await sends.send(mail())
    assert report == Report(Result.ACCEPTED, provider_id=f"<{MESSAGE_ID}@caf.example>")
    return server


@BOTH
async def test_a_mail_arrives_as_it_is(security: Security, own: Certificate) -> None:
    server = await arrived(security, own)
    assert server.logins == [(USER.encode(), PASSWORD.encode())]
    [taken] = server.taken
    assert (taken.sender, taken.recipients, taken.text) == (SENDER, [MAIL], TEXT)
    assert dict(taken.mail.items()) == {
        "From": f"Caf <{SENDER}>",
        "To": MAIL,
        "Subject": "Votre code de vérification",
        "Date": "Tue, 02 Nov 2021 09:30:00 +0000",
        "Message-ID": f"<{MESSAGE_ID}@caf.example>",
        "Auto-Submitted": "auto-generated",
        "Content-Type": 'text/plain; charset="utf-8"',
        "Content-Transfer-Encoding": "quoted-printable",
        "MIME-Version": "1.0",
    }


async def test_a_relay_of_this_machine_needs_neither_tls_nor_account() -> None:
    async with sending() as (server, sends):
        assert (await sends.send(mail())).result is Result.ACCEPTED
    assert [taken.text for taken in server.taken] == [TEXT]
    assert server.logins == []


HOSTILE_TEXTS = {
    "a dot alone": "un\n.\ndeux\n",
    "commands after a dot": f"un\n.\nMAIL FROM:<{SENDER}>\nRCPT TO:<voleur@exemple.fr>\nDATA\n",
    "a header's look": "Bcc: voleur@exemple.fr\n\nun\n",
    "one long line": "é" * 3000 + "\n",
}


@pytest.mark.parametrize("text", HOSTILE_TEXTS.values(), ids=HOSTILE_TEXTS)
async def test_a_text_stays_one_text(text: str) -> None:
    async with sending() as (server, sends):
        assert (await sends.send(mail(text=text))).result is Result.ACCEPTED
    [taken] = server.taken
    assert (taken.recipients, taken.text) == ([MAIL], text)
    assert taken.mail["Bcc"] is None


HOSTILE_ADDRESSES = {
    "another command": "a@exemple.fr>\r\nRCPT TO:<voleur@exemple.fr",
    "another header": "a@exemple.fr\r\nBcc: voleur@exemple.fr",
    "a bare newline": "a@exemple.fr\nBcc:voleur@exemple.fr",
    "a bare return": "a@exemple.fr\rBcc:voleur@exemple.fr",
    "a newline at the end": "a@exemple.fr\n",
    "two": "a@exemple.fr,voleur@exemple.fr",
    "a NUL": "a\0@exemple.fr",
    "a parameter": "a@exemple.fr> ORCPT=rfc822;b",
    "quotes": '"a b"@exemple.fr',
    "a name": "Claire <a@exemple.fr>",
    "no ASCII": "hélène@exemple.fr",
    "no domain": "claire",
    "two dots": "a..b@exemple.fr",
    "too long": "a" * 250 + "@e.fr",
    "nothing": "",
}


@pytest.mark.parametrize("address", HOSTILE_ADDRESSES.values(), ids=HOSTILE_ADDRESSES)
async def test_what_is_no_plain_address_gets_nothing(address: str) -> None:
    """Beside it another person's mail goes out."""
    async with sending() as (server, sends):
        assert await sends.send(mail(address)) == Report(Result.REFUSED, "no-address")
        assert server.asked == []
        assert (await sends.send(mail(OTHER_MAIL))).result is Result.ACCEPTED
    assert [taken.recipients for taken in server.taken] == [[OTHER_MAIL]]


# What a reply means


REPLIES: dict[str, tuple[str, str, Report]] = {
    "sender: later": ("MAIL", "451 4.3.0 Later", Report(LATER, "451")),
    "recipient: no such one": ("RCPT", "550 5.1.1 Unknown", Report(NO, "550")),
    "recipient: full": ("RCPT", "452 4.2.2 Full", Report(LATER, "452", message_alone=True)),
    "recipient: out of place": ("RCPT", "252 Perhaps", Report(LATER, "252")),
    "text: refused": ("DATA", "554 5.7.1 Spam", Report(NO, "554")),
    "text: later": ("DATA", "451 4.3.0 Later", Report(LATER, "451", message_alone=True)),
    "text: out of place": ("DATA", "299 Well", Report(Result.UNCERTAIN, "299")),
    "busy": ("RCPT", "421 4.3.2 Bye", Report(LATER, "421", retry_after=5)),
    "unreadable": ("RCPT", "OK", Report(LATER, "-1")),
    "text: unreadable": ("DATA", "OK", Report(Result.UNCERTAIN, "-1")),
}


@pytest.mark.parametrize(("command", "reply", "report"), REPLIES.values(), ids=REPLIES)
async def test_what_a_reply_means(command: str, reply: str, report: Report) -> None:
    async with sending() as (server, sends):
        server.tempers[command] = says(reply)
        assert await sends.send(mail()) == report
        server.tempers.clear()
        assert (await sends.send(mail())).result is Result.ACCEPTED


REPLIES_TO_DATA = {
    "refused": ("554 5.5.1 No", Report(NO, "554")),
    "later": ("451 4.3.0 Later", Report(LATER, "451", message_alone=True)),
    "taken without a text": ("250 OK", Report(Result.UNCERTAIN, "250")),
}


@pytest.mark.parametrize(("reply", "report"), REPLIES_TO_DATA.values(), ids=REPLIES_TO_DATA)
async def test_what_a_reply_to_data_itself_means(reply: str, report: Report) -> None:
    async with sending() as (server, sends):
        server.before_text = says(reply)
        assert await sends.send(mail()) == report
    assert server.taken == []


async def test_one_recipient_is_refused_and_another_is_not() -> None:
    async with sending() as (server, sends):
        server.rcpt[OTHER_MAIL] = "550 5.1.1 Unknown"
        assert await sends.send(mail(OTHER_MAIL)) == Report(Result.REFUSED, "550")
        assert (await sends.send(mail())).result is Result.ACCEPTED
    assert [taken.recipients for taken in server.taken] == [[MAIL]]


OUR_FAULTS = {
    "the sender is refused": ("MAIL", "553 5.1.8 Not yours"),
    "a login is required, said late": ("RCPT", "530 5.7.0 Authentication required"),
}


@pytest.mark.parametrize(("command", "reply"), OUR_FAULTS.values(), ids=OUR_FAULTS)
async def test_a_fault_of_ours_stops_the_provider(command: str, reply: str) -> None:
    async with sending() as (server, sends):
        server.tempers[command] = says(reply)
        with pytest.raises(ProviderStoppedError) as stopped:
            await sends.send(mail())
    assert str(stopped.value) == f"SMTP: {reply[:3]}"
    assert server.taken == []


@BOTH
async def test_a_wrong_password_stops_the_provider(security: Security, own: Certificate) -> None:
    wrong = SmtpAccount(USER, Secret("faux"))
    implicit = security is Security.IMPLICIT
    async with mail_server(own.of_server(), implicit=implicit) as server:
        sends = provider(server.port, security=security, tls=own.trusted(), account=wrong)
        with pytest.raises(ProviderStoppedError, match="SMTP: 535"):
            await sends.send(mail())
    assert server.logins
    assert server.asked == []


async def test_an_account_that_is_missing_stops_the_provider() -> None:
    async with sending() as (server, sends):
        server.closed = True
        with pytest.raises(ProviderStoppedError, match="SMTP: 530"):
            await sends.send(mail())


async def test_a_login_that_fails_for_now_is_tried_again() -> None:
    async with sending(account=ACCOUNT) as (server, sends):
        server.login_reply = "454 4.7.0 Later"
        assert await sends.send(mail()) == Report(Result.RETRY, "454")
        server.login_reply = ""
        assert (await sends.send(mail())).result is Result.ACCEPTED


# Nobody else reads it


async def test_without_starttls_nothing_is_sent(own: Certificate) -> None:
    """As when somebody on the way hides that the server has it."""
    async with sending(security=Security.STARTTLS, tls=own.trusted(), account=ACCOUNT) as (
        server,
        sends,
    ):
        assert await sends.send(mail()) == Report(Result.RETRY, "not-offered")
    assert (server.asked, server.logins) == ([], [])


@BOTH
@pytest.mark.parametrize("whose", ["nobody's", "another's"])
async def test_a_certificate_that_is_not_the_servers_gets_nothing(
    security: Security, whose: str, tmp_path: Path
) -> None:
    if whose == "nobody's":
        shown, tls = certificate(tmp_path), ssl.create_default_context()
    else:
        shown = certificate(tmp_path, "127.0.0.2")
        tls = shown.trusted()
    async with mail_server(shown.of_server(), implicit=security is Security.IMPLICIT) as server:
        sends = provider(server.port, security=security, tls=tls, account=ACCOUNT)
        assert await sends.send(mail()) == Report(Result.RETRY, "tls")
    assert (server.asked, server.logins) == ([], [])


# Slow and cut


WITHOUT_REPLY: dict[str, tuple[str, Temper, Report]] = {
    "slow before the text": ("RCPT", hangs, Report(LATER, "timeout")),
    "slow after the text": ("DATA", hangs, Report(Result.UNCERTAIN, "timeout")),
    "cut before the text": ("RCPT", cuts, Report(LATER, "no-connection")),
    "cut after the last dot": ("DATA", cuts, Report(Result.UNCERTAIN, "no-connection")),
}


@pytest.mark.parametrize(("command", "temper", "report"), WITHOUT_REPLY.values(), ids=WITHOUT_REPLY)
async def test_what_no_reply_means(command: str, temper: Temper, report: Report) -> None:
    slow = temper is hangs
    late = SmtpPace(ready=0.5 if command == "RCPT" else 30, answer=0.5)
    async with sending(pace=late if slow else PATIENT) as (server, sends):
        server.tempers[command] = temper
        assert await sends.send(mail()) == report
        assert server.asked[-1].startswith(command)


async def test_cut_before_the_last_dot_nobody_knows() -> None:
    """What the server read of the text is not to be told from here."""
    async with sending() as (server, sends):
        server.before_text = cuts_in_the_text
        assert await sends.send(mail()) == Report(Result.UNCERTAIN, "no-connection")
    assert server.taken == []


async def test_a_server_that_does_not_greet_is_tried_again() -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        sends = provider(mute.getsockname()[1], pace=SmtpPace(ready=0.5, answer=0.5))
        assert await sends.send(mail()) == Report(Result.RETRY, "timeout")


async def test_a_server_that_is_away_is_tried_again() -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]
    assert await provider(port).send(mail()) == Report(Result.RETRY, "no-connection")


@pytest.mark.parametrize("temper", [cuts, hangs, says("500 What?")])
async def test_a_mail_that_was_taken_is_taken_whatever_the_farewell(temper: Temper) -> None:
    async with sending() as (server, sends):
        server.tempers["QUIT"] = temper
        assert (await sends.send(mail())).result is Result.ACCEPTED
    assert server.asked[-1] == "QUIT"
    assert len(server.taken) == 1


async def test_nothing_can_be_looked_up() -> None:
    assert await provider(1).look_up(mail()) is None
