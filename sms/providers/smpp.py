"""Messages by an operator's SMSC: one submit_sm for each SMS, receipts by the same link.

SMPP has no idempotency key, and a message can be asked for by the SMSC's own identifier only, which
is just what a lost answer lacks. So an answer that comes late is kept for `look_up`; one that never
comes leaves the outcome unknown (D19).
"""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from enum import StrEnum
from functools import partial
from pathlib import Path
from ssl import SSLContext
from typing import Self
from uuid import UUID

import structlog

from shared.clock import Chance
from shared.models import MessageState, Route
from shared.outbox import Report, Result
from shared.secret import Secret
from sms import gsm7
from sms.provider import LONGEST_SHORT_CODE, Outgoing, ProviderStoppedError, Received
from sms.providers.account import read_account
from sms.providers.smpp_inbound import MESSAGE_PAYLOAD, WITH_HEADER, read_message
from sms.smpp import (
    Answer,
    AnswerLostError,
    BindRefusedError,
    Delivery,
    Link,
    LinkPace,
    NotSubmittedError,
    Smsc,
    Status,
    open_link,
)

PORT = 2775
LONGEST_VALIDITY = timedelta(days=30)  # as much as any SMSC keeps one
RETRY_SECONDS = 1.0  # SMSCs limit what they take in a second
MOST_LATE = 1000  # answers waited for though they are late

# Fields of a submit_sm (SMPP 3.4, 5.2).
INTERNATIONAL = (1, 1)  # type of number and numbering plan
ALPHANUMERIC = (5, 0)
SHORT_CODE = (3, 0)  # known to this network only
RECEIPT = 0x01  # registered_delivery: when the message's fate is final
DEFAULT_ALPHABET = 0  # data_coding: GSM-7, an octet for each septet
# Of a deliver_sm.
MESSAGE_TYPE = 0x3C  # esm_class: bits that say what it brings
OF_MESSAGE, OF_RECEIPT = 0x00, 0x04
RECEIPTED_MESSAGE_ID = 0x001E
MESSAGE_STATE = 0x0427

_MESSAGE_ID = re.compile(r"[!-~]{1,64}")
_IN_TEXT = re.compile(r"(?i)\b(id|stat|err):([!-~]{1,64})")
_MESSAGE_TEXT = re.compile(r"(?i)\btext:")  # and what follows is the message's own

log = structlog.get_logger(__name__)

OUR_FAULT = None
"""Our account is closed to us: no message would be taken."""

BY_STATUS: Mapping[int, Result | None] = {
    Status.ESME_ROK: Result.ACCEPTED,
    Status.ESME_RINVPASWD: OUR_FAULT,
    Status.ESME_RINVSYSID: OUR_FAULT,
    Status.ESME_RINVBNDSTS: Result.RETRY,  # it has forgotten our bind
    Status.ESME_RSYSERR: Result.RETRY,
    Status.ESME_RMSGQFUL: Result.RETRY,
    Status.ESME_RTHROTTLED: Result.RETRY,
    Status.ESME_RX_T_APPN: Result.RETRY,
}
"""What a status means for the message; any other is a refusal: the SMSC says that it has it not."""

OF_THE_NUMBER = {Status.ESME_RINVDSTADR}
"""Refusals that any provider would give; after others another may take it, by its own sender."""

THROTTLING = {Status.ESME_RMSGQFUL, Status.ESME_RTHROTTLED}
"""Statuses that ask us to slow down, not this message alone."""

STATES: Mapping[str, MessageState | None] = {
    "ENROUTE": MessageState.ACCEPTED,
    "DELIVRD": MessageState.DELIVERED,
    "EXPIRED": MessageState.UNDELIVERED,
    "DELETED": MessageState.UNDELIVERED,
    "UNDELIV": MessageState.UNDELIVERED,
    "ACCEPTD": MessageState.ACCEPTED,
    "UNKNOWN": None,
    "REJECTD": MessageState.UNDELIVERED,
}
"""What `stat` in a receipt means (SMPP 3.4, appendix B); in the order of message_state, from 1."""


class ReceiptIds(StrEnum):
    """How the text of a receipt writes the identifier that the SMSC gave for the message."""

    SAME = "same"
    DECIMAL = "decimal"  # the SMSC gave it in hexadecimal
    HEXADECIMAL = "hexadecimal"  # the SMSC gave it in decimal


BASES: Mapping[ReceiptIds, tuple[int | None, int | None]] = {
    ReceiptIds.SAME: (None, None),
    ReceiptIds.DECIMAL: (16, 10),
    ReceiptIds.HEXADECIMAL: (10, 16),
}
"""The bases of what the SMSC gives and of what a receipt's text says; None: as it is."""

OnReceipt = Callable[[str, MessageState], Awaitable[None]]
"""Keeps what became of a message, by its provider id; if it fails the SMSC tells it again."""

OnMessage = Callable[[Received], Awaitable[None]]
"""Deals with what somebody wrote to us; if it fails the SMSC brings it again."""


@dataclass(frozen=True)
class SmppAccount:
    """Who we are to the SMSC."""

    system_id: str = field(repr=False)
    password: Secret

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read `{"system_id": "…", "password": "…"}`.

        SettingsError if the file is missing, damaged or readable by others.
        """
        system_id, password = read_account(
            path,
            {"system_id": partial(_fits, 15), "password": partial(_fits, 8)},  # SMPP 3.4, 4.1.1
            "il faut un system_id de 15 caractères au plus et un password de 8 ;"
            " recopiez ceux de l'opérateur",
        )
        return cls(system_id, Secret(password))


@dataclass(frozen=True)
class SmppSettings:
    """How to reach an SMSC."""

    account: SmppAccount
    host: str
    port: int = PORT
    tls: SSLContext | None = None
    receipt_ids: ReceiptIds = ReceiptIds.SAME
    pace: LinkPace = field(default_factory=LinkPace)
    window: int = 10  # submissions that are open at once


class SmppProvider:
    """Sends by an SMSC; made by `open_smpp`."""

    name = "smpp"
    route = Route.SMS

    def __init__(self, settings: SmppSettings, link: Link) -> None:
        self.window = settings.window  # each message has one submission open, parts or not
        self._link = link
        self._id_base, _ = BASES[settings.receipt_ids]
        self._late: dict[UUID, _Late] = {}

    async def send(self, message: Outgoing) -> Report:
        """Submit a message, once, in as many SMS as it takes."""
        try:
            payloads = gsm7.payloads(message.text.reveal(), message.attempt_id.bytes[-1])
        except gsm7.TextError:
            return Report(Result.REFUSED, "not-gsm7")
        given: tuple[str, ...] = ()
        submit = self._submit
        for number, payload in enumerate(payloads, 1):
            try:
                report = await submit(self._fields(message, payload, joined=len(payloads) > 1))
            except AnswerLostError as lost:
                if number == len(payloads):
                    self._expect(message.attempt_id, _Late(given, lost.late))
                return Report(Result.UNCERTAIN, lost.code)
            if report.result is not Result.ACCEPTED:
                return report
            given += report.parts
            submit = self._submit_further
        return _as_whole(report, given)

    async def look_up(self, message: Outgoing) -> Report | None:
        """Say what the SMSC answered too late; None if it did not."""
        late = self._late.get(message.attempt_id)
        answer = late.answer.result() if late is not None and late.answer.done() else None
        if late is None or answer is None:
            return None
        del self._late[message.attempt_id]
        report = self._judge(answer)
        if late.given and report.result is not Result.ACCEPTED:
            return None  # it has the parts before: there is no way back
        return _as_whole(report, late.given + report.parts)

    async def _submit(self, fields: Mapping[str, object]) -> Report:
        """Submit one SMS; AnswerLostError, ProviderStoppedError."""
        try:
            return self._judge(await self._link.submit(**fields))
        except NotSubmittedError:
            return Report(Result.RETRY, "unreachable")
        except BindRefusedError as error:
            raise ProviderStoppedError(f"SMPP: {error}") from None

    async def _submit_further(self, fields: Mapping[str, object]) -> Report:
        """Submit one SMS more of a message that the SMSC has in part: there is no way back."""
        try:
            while (report := await self._submit(fields)).result is Result.RETRY:
                await asyncio.sleep(RETRY_SECONDS)
        except ProviderStoppedError:  # which the next message shows
            return Report(Result.UNCERTAIN, "provider-stopped")
        if report.result is Result.REFUSED:
            return Report(Result.UNCERTAIN, report.code)
        return report

    def _fields(self, message: Outgoing, payload: bytes, *, joined: bool) -> dict[str, object]:
        source_ton, source_npi = _numbering(message.sender)
        destination_ton, destination_npi = INTERNATIONAL
        validity = min(timedelta(seconds=message.life_seconds), LONGEST_VALIDITY)
        return {
            "source_addr_ton": source_ton,
            "source_addr_npi": source_npi,
            "source_addr": message.sender,
            "dest_addr_ton": destination_ton,
            "dest_addr_npi": destination_npi,
            "destination_addr": message.destination.removeprefix("+"),
            "esm_class": WITH_HEADER if joined else 0,
            "validity_period": _relative(validity),
            "registered_delivery": RECEIPT,
            "data_coding": DEFAULT_ALPHABET,
            "short_message": payload,
        }

    def _judge(self, answer: Answer) -> Report:
        """Tell what an answer means by the table; ProviderStoppedError if the fault is ours."""
        result = BY_STATUS.get(answer.status, Result.REFUSED)
        if result is OUR_FAULT:
            raise ProviderStoppedError(f"SMPP: {answer.code}")
        if result is Result.ACCEPTED:
            readable = _MESSAGE_ID.fullmatch(answer.message_id)
            identifier = _canonical(answer.message_id, self._id_base) if readable else ""
            return Report(result, provider_id=identifier or None, parts=(identifier,))
        wait = RETRY_SECONDS if answer.status in THROTTLING else None
        elsewhere = result is Result.REFUSED and answer.status not in OF_THE_NUMBER
        return Report(result, answer.code, retry_after=wait, elsewhere=elsewhere)

    def _expect(self, attempt_id: UUID, late: "_Late") -> None:
        """Keep a lost answer, should it come; the oldest make room."""
        if len(self._late) >= MOST_LATE:
            del self._late[next(iter(self._late))]
        self._late[attempt_id] = late


@dataclass(frozen=True)
class _Late:
    """The answer to a message's last SMS, should it come, after the names given to the others."""

    given: tuple[str, ...]
    answer: asyncio.Future[Answer | None]


@dataclass(frozen=True)
class SmppReceipt:
    """What an SMSC says later of a message; `state` is None for a `stat` that tells nothing."""

    provider_id: str
    state: MessageState | None
    error: str  # the network's own, "" if there is none

    @classmethod
    def read(cls, delivery: Delivery, ids: ReceiptIds) -> Self | None:
        """Read a receipt's text or its optional parameters; None if it names no message.

        The parameter is the identifier as the SMSC gave it, whatever the text makes of it.
        """
        text = delivery.text or delivery.options.get(MESSAGE_PAYLOAD, b"")
        head, *_ = _MESSAGE_TEXT.split(text.decode("ascii", "replace"), 1)
        said = {key.lower(): value for key, value in reversed(_IN_TEXT.findall(head))}
        given_base, text_base = BASES[ids]
        given = _c_string(delivery.options.get(RECEIPTED_MESSAGE_ID, b""))
        if _MESSAGE_ID.fullmatch(given):
            identifier = _canonical(given, given_base)
        elif "id" in said:
            identifier = _canonical(said["id"], text_base)
        else:
            return None
        number = int.from_bytes(delivery.options.get(MESSAGE_STATE, b""))
        stat = dict(enumerate(STATES, 1)).get(number, said.get("stat", "").upper())
        return cls(identifier, STATES.get(stat), said.get("err", ""))


@asynccontextmanager
async def open_smpp(
    settings: SmppSettings, on_receipt: OnReceipt, on_message: OnMessage, chance: Chance
) -> AsyncIterator[SmppProvider]:
    """Give a provider in the running loop and take leave of the SMSC in the end."""

    async def receive(delivery: Delivery) -> Status:
        kind = delivery.esm_class & MESSAGE_TYPE
        if kind == OF_MESSAGE:
            await on_message(read_message(SmppProvider.name, delivery))
        elif kind == OF_RECEIPT:
            await _take_receipt(SmppReceipt.read(delivery, settings.receipt_ids), on_receipt)
        else:  # we ask for no acknowledgements
            log.warning("smpp_delivery_refused", esm_class=delivery.esm_class)
            return Status.ESME_RX_P_APPN
        return Status.ESME_ROK

    account = settings.account
    smsc = Smsc(settings.host, settings.port, account.system_id, account.password, settings.tls)
    async with open_link(smsc, receive, chance, settings.pace) as link:
        yield SmppProvider(settings, link)


async def _take_receipt(receipt: SmppReceipt | None, on_receipt: OnReceipt) -> None:
    if receipt is None:
        log.warning("smpp_receipt_unreadable")
    elif receipt.state is not None:
        log.info("smpp_receipt", provider_id=receipt.provider_id, error=receipt.error)
        await on_receipt(receipt.provider_id, receipt.state)


def _as_whole(report: Report, given: tuple[str, ...]) -> Report:
    """Report on a message of several SMS; one without a name leaves receipts unmatched."""
    return replace(report, parts=given if all(given) else ())


def _fits(longest: int, text: str) -> bool:
    return text.isascii() and text.isprintable() and 0 < len(text) <= longest


def _numbering(sender: str) -> tuple[int, int]:
    """Give the type of number and the numbering plan of what a telephone shows as origin."""
    if not sender.isdecimal():
        return ALPHANUMERIC
    return SHORT_CODE if len(sender) <= LONGEST_SHORT_CODE else INTERNATIONAL


def _relative(time: timedelta) -> str:
    """Write a time from now on as SMPP 3.4 does, 7.1.1.2: YYMMDDhhmmss000R."""
    hours, seconds = divmod(time.seconds, 3600)
    return f"0000{time.days:02}{hours:02}{seconds // 60:02}{seconds % 60:02}000R"


def _canonical(identifier: str, base: int | None) -> str:
    """Write an identifier so that what the SMSC gave and what a receipt says are the same."""
    try:
        return identifier if base is None else str(int(identifier, base))
    except ValueError:
        return identifier


def _c_string(value: bytes) -> str:
    """Read text that ends with a NUL, or should."""
    return value.partition(b"\0")[0].decode("ascii", "replace")
