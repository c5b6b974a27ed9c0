"""Messages by mail: each handed to one SMTP server, on a connection of its own.

A kept connection that the server has just closed would make a send uncertain for nothing. SMTP
can't be asked what became of a mail: a repeat (D19) has the Message-ID of the first try, by which
the receiver's side knows it.
"""

import asyncio
import socket
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP as ON_THE_WIRE
from enum import StrEnum
from pathlib import Path
from ssl import SSLContext, SSLError, create_default_context
from typing import Self

from aiosmtplib import SMTP, SMTPException, SMTPResponseException

from shared.clock import Clock
from shared.errors import SettingsError
from shared.identifiers import is_mail
from shared.models import Route
from shared.outbox import Report, Result
from shared.secret import Secret
from sms.loopback import is_loopback
from sms.provider import Outgoing, ProviderStoppedError
from sms.providers.account import read_account

RETRY_SECONDS = 5.0  # where the server has no time for us at all
LEAVE_SECONDS = 1.0

OUR_FAULT = None
"""Our account or sender is wrong: no mail would be taken."""

OF_US: Mapping[int, Result | None] = {4: Result.RETRY, 5: OUR_FAULT}
"""What the first digit of a reply means before the recipient is named (RFC 5321, 4.2.1)."""

OF_THE_MAIL: Mapping[int, Result | None] = {4: Result.RETRY, 5: Result.REFUSED}
"""What it means from then on."""

LOGIN_REQUIRED = 530
"""Said of a recipient too, and about us all the same (RFC 4954, 6)."""

REPLIES = (
    *(421, 432, 450, 451, 452, 454, 455),
    *(500, 501, 502, 503, 504, 521, 550, 551, 552, 553, 554, 555, 556),
)
"""Replies about a mail that the standards name (RFC 5321, 4.2.3; RFC 4954, 6; RFC 7504)."""

WITHOUT_REPLY: Mapping[str, type[Exception]] = {
    "tls": SSLError,
    "timeout": TimeoutError,
    "no-connection": OSError,
    "not-offered": SMTPException,  # TLS, or a way to log in
}
"""What goes wrong without a reply; the first that fits."""

BUSY = 421
"""The server closes the connection, whatever it was asked."""


class Security(StrEnum):
    """How the way to the server is kept from others."""

    STARTTLS = "starttls"
    IMPLICIT = "implicit"  # TLS from the first octet
    NONE = "none"  # to this machine only


PORTS: Mapping[Security, int] = {
    Security.STARTTLS: 587,
    Security.IMPLICIT: 465,
    Security.NONE: 25,
}


@dataclass(frozen=True)
class SmtpAccount:
    """Who we are to the server."""

    user: str = field(repr=False)
    password: Secret

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read `{"user": "…", "password": "…"}`.

        SettingsError if the file is missing, damaged or readable by others.
        """
        user, password = read_account(
            path,
            {"user": _is_readable, "password": _is_readable},
            "il faut user et password ; recopiez ceux du serveur de courriel",
        )
        return cls(user, Secret(password))


@dataclass(frozen=True)
class SmtpPace:
    """How long we wait for the server, in seconds; it all ends before the dispatcher gives up."""

    ready: float = 5.0  # to be let in and to name sender and recipient
    answer: float = 8.0  # for what it says of the mail


@dataclass(frozen=True)
class SmtpSettings:
    """How to reach a server, and the address that mails come from; port 0: the usual one.

    SettingsError for what would send codes in clear over a network, or from nowhere.
    """

    host: str
    sender: str
    account: SmtpAccount | None = None
    port: int = 0
    security: Security = Security.STARTTLS
    tls: SSLContext = field(default_factory=create_default_context)
    own_name: str = field(default_factory=socket.getfqdn)  # asked once: the DNS may be slow
    pace: SmtpPace = field(default_factory=SmtpPace)

    def __post_init__(self) -> None:
        if not is_mail(self.sender):
            raise SettingsError("SVI_SMTP_SENDER : il faut l'adresse d'où partent les courriels")
        if self.security is Security.NONE and not is_loopback(self.host):
            raise SettingsError("SVI_SMTP_TLS : sans TLS, seulement vers cette machine (127.0.0.1)")


class SmtpProvider:
    """Sends by an SMTP server."""

    name = "smtp"
    route = Route.MAIL
    window = None

    def __init__(self, settings: SmtpSettings, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock

    async def send(self, message: Outgoing) -> Report:
        """Hand a mail over, once."""
        if not is_mail(message.destination):
            return Report(Result.REFUSED, "no-address")
        client = self._client()
        try:
            not_taken = await self._prepare(client, message.destination)
            return not_taken or await self._hand_over(client, message)
        finally:
            client.close()

    async def look_up(self, message: Outgoing) -> Report | None:
        """Say nothing: SMTP can't be asked."""
        del message
        return None

    def _client(self) -> SMTP:
        settings = self._settings
        account = settings.account
        return SMTP(
            hostname=settings.host,
            port=settings.port or PORTS[settings.security],
            username=account.user if account else None,
            password=account.password.reveal() if account else None,
            use_tls=settings.security is Security.IMPLICIT,
            start_tls=settings.security is Security.STARTTLS,
            local_hostname=settings.own_name,
            tls_context=settings.tls,
            timeout=None,  # the pace's hold
        )

    async def _prepare(self, client: SMTP, destination: str) -> Report | None:
        """Get in and name sender and recipient; say why if a mail can't be sent, None if it can."""
        meaning = OF_US
        try:
            async with asyncio.timeout(self._settings.pace.ready):
                await client.connect()
                await client.mail(self._settings.sender)
                meaning = OF_THE_MAIL
                await client.rcpt(destination)
        except SMTPResponseException as reply:
            return _judge(reply.code, meaning, otherwise=Result.RETRY)
        except (SMTPException, OSError) as error:
            return Report(Result.RETRY, _why(error))
        return None

    async def _hand_over(self, client: SMTP, message: Outgoing) -> Report:
        """Send the mail itself; without a reply that we can read nobody knows what came of it."""
        mail = self._mail(message)
        try:
            async with asyncio.timeout(self._settings.pace.answer):
                await client.data(mail.as_bytes())
        except SMTPResponseException as reply:
            return _judge(reply.code, OF_THE_MAIL, otherwise=Result.UNCERTAIN)
        except (SMTPException, OSError) as error:
            return Report(Result.UNCERTAIN, _why(error))
        with suppress(SMTPException, OSError):
            async with asyncio.timeout(LEAVE_SECONDS):
                await client.quit()
        return Report(Result.ACCEPTED, provider_id=str(mail["Message-ID"]))

    def _mail(self, message: Outgoing) -> EmailMessage:
        sender = self._settings.sender
        mail = EmailMessage(ON_THE_WIRE)
        mail["From"] = Address(message.sender, addr_spec=sender)
        mail["To"] = message.destination
        mail["Subject"] = message.subject
        mail["Date"] = self._clock()
        mail["Message-ID"] = f"<{message.message_id}@{sender.partition('@')[2]}>"
        mail["Auto-Submitted"] = "auto-generated"  # RFC 3834: out-of-office replies stay away
        mail.set_content(message.text.reveal(), cte="quoted-printable")
        return mail


def _judge(code: int, meaning: Mapping[int, Result | None], *, otherwise: Result) -> Report:
    """Tell what a reply that is no yes means; ProviderStoppedError if the fault is ours."""
    result = OUR_FAULT if code == LOGIN_REQUIRED else meaning.get(code // 100, otherwise)
    if result is OUR_FAULT:
        raise ProviderStoppedError(f"SMTP: {code}") from None
    if code == BUSY:
        return Report(result, str(code), retry_after=RETRY_SECONDS)
    put_off = meaning is OF_THE_MAIL and code // 100 == 4
    return Report(result, str(code), message_alone=put_off)


def _why(error: SMTPException | OSError) -> str:
    """Name what went wrong without a reply; nothing of what the server wrote is in it."""
    return next(
        code
        for code, kind in WITHOUT_REPLY.items()
        if isinstance(error, kind) or isinstance(error.__cause__, kind)
    )


def _is_readable(text: str) -> bool:
    return text != "" and text.isprintable()
