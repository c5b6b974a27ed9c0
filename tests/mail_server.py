"""A real SMTP server on loopback, aiosmtpd: it keeps what it takes, and errs as it is told."""
# ruff: noqa: ARG002, N802 - the signatures are aiosmtpd's

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import SMTP as ON_THE_WIRE
from ipaddress import ip_address
from pathlib import Path

from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

USER, PASSWORD = "caf", "le secret du relais"

AWAY = {
    "SVI_SMTP_HOST": "127.0.0.1",
    "SVI_SMTP_PORT": "1",
    "SVI_SMTP_TLS": "none",
    "SVI_SMTP_SENDER": "ne-pas-repondre@caf.example",
}
"""Settings of a gateway whose mail server is out of reach."""

Temper = Callable[[SMTP], Awaitable[str]]
"""Gives the reply to a command, or none ever."""


@dataclass
class Taken:
    """A mail that the server has said yes to."""

    sender: str
    recipients: list[str]
    mail: EmailMessage

    @property
    def text(self) -> str:
        """What it says, with the ends of lines that our texts have."""
        return str(self.mail.get_content()).replace("\r\n", "\n")


@dataclass
class MailServer:
    """What it was asked and took; `tempers` are for commands, DATA's is for after its last dot.

    `closed` to whoever has not logged in; `rcpt` has a reply for some recipients.
    """

    closed: bool = False
    port: int = 0
    tempers: dict[str, Temper] = field(default_factory=dict)
    rcpt: dict[str, str] = field(default_factory=dict)
    before_text: Temper | None = None  # answers DATA itself
    taken: list[Taken] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    logins: list[tuple[bytes, bytes]] = field(default_factory=list)
    login_reply: str = ""  # instead of a yes to whoever logs in rightly

    async def handle_MAIL(
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        envelope.mail_from = address
        if self.closed and not session.authenticated:
            return "530 5.7.0 Authentication required"
        return await self._reply(server, "MAIL", address)

    async def handle_RCPT(
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        envelope.rcpt_tos.append(address)
        reply = await self._reply(server, "RCPT", address)
        return self.rcpt.get(address, reply)

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        mail = message_from_bytes(
            envelope.original_content or b"", EmailMessage, policy=ON_THE_WIRE
        )
        taken = Taken(envelope.mail_from or "", list(envelope.rcpt_tos), mail)
        if "DATA" not in self.tempers or self.tempers["DATA"] is cuts:  # it has it, all the same
            self.taken.append(taken)
        return await self._reply(server, "DATA", "")

    async def handle_QUIT(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        return await self._reply(server, "QUIT", "", "221 Bye")

    def log_in(
        self, server: SMTP, session: Session, envelope: Envelope, how: str, data: LoginPassword
    ) -> AuthResult:
        self.logins.append((data.login, data.password))
        right = (data.login, data.password) == (USER.encode(), PASSWORD.encode())
        return AuthResult(
            success=right and not self.login_reply,
            handled=False,
            message=self.login_reply or None,
        )

    async def _reply(self, server: SMTP, command: str, what: str, yes: str = "250 OK") -> str:
        self.asked.append(f"{command} {what}".strip())
        temper = self.tempers.get(command)
        return await temper(server) if temper else yes


class _Smtp(SMTP):
    """Lets the mail server answer DATA before it reads what follows."""

    async def smtp_DATA(self, arg: str) -> None:
        before_text = self.event_handler.before_text
        if before_text is None:
            await super().smtp_DATA(arg)
        else:
            await self.push(await before_text(self))


def says(reply: str) -> Temper:
    async def say(_: SMTP) -> str:
        return reply

    return say


async def hangs(_: SMTP) -> str:
    await asyncio.Event().wait()
    raise AssertionError


async def cuts(server: SMTP) -> str:
    """Cut the connection; the server then ends this."""
    assert isinstance(server.transport, asyncio.Transport)
    server.transport.abort()
    return await hangs(server)


async def cuts_in_the_text(server: SMTP) -> str:
    """Ask for the text, and cut the connection before its last dot."""
    await server.push("354 Go on")
    return await cuts(server)


@asynccontextmanager
async def mail_server(
    tls: ssl.SSLContext | None = None, *, implicit: bool = False, closed: bool = False
) -> AsyncIterator[MailServer]:
    """Serve on a free port; with `tls`, STARTTLS, or TLS from the start."""
    loop = asyncio.get_running_loop()
    mails = MailServer(closed)

    def connected() -> SMTP:
        return _Smtp(
            mails,
            loop=loop,
            hostname="mail.example.org",
            tls_context=None if implicit else tls,
            auth_require_tls=False,
            authenticator=mails.log_in,
        )

    server = await loop.create_server(connected, "127.0.0.1", 0, ssl=tls if implicit else None)
    mails.port = server.sockets[0].getsockname()[1]
    async with server:
        yield mails


@dataclass(frozen=True)
class Certificate:
    """A server's certificate that vouches for itself, with its key."""

    path: Path

    def of_server(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.path)
        return context

    def trusted(self) -> ssl.SSLContext:
        """Give what a machine verifies by that trusts this one and all that it trusts anyway."""
        context = ssl.create_default_context()
        context.load_verify_locations(self.path)
        return context


def certificate(folder: Path, host: str = "127.0.0.1") -> Certificate:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(datetime(2020, 1, 1, tzinfo=UTC))
        .not_valid_after(datetime(2050, 1, 1, tzinfo=UTC))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ip_address(host))]), critical=False
        )
        .sign(key, hashes.SHA256())
    )
    path = folder / f"{host}.pem"
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    path.write_bytes(private + made.public_bytes(Encoding.PEM))
    return Certificate(path)
