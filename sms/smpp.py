"""A link to an SMSC: SMPP 3.4 in asyncio, on smpplib's PDUs, whose traps are mended here.

smpplib reads a receipt's optional parameters by its own table, where any other is an error, and
takes the last digit off an identifier that ends without a NUL. It would cut what is too long for a
field without a word: whoever gives us settings checks them. Its client, which blocks and writes
every PDU into its log, is not used.
"""

import asyncio
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from enum import IntEnum
from ssl import SSLContext
from typing import Any, NamedTuple

import structlog
from smpplib import command_codes, consts, smpp

from shared.clock import Chance
from shared.errors import StoreDownError
from shared.secret import Secret

JITTER_STEPS = 1000
LARGEST_PDU = 64 * 1024
LAST_SEQUENCE = 0x7FFFFFFF
MOST_UNANSWERED = 1000  # beyond, those that were asked first are given up
MOST_DELIVERIES = 100  # taken in before we have dealt with them; then the SMSC waits
RESPONSE = 0x80000000  # in a command that answers another

log = structlog.get_logger(__name__)


class Status(IntEnum):
    """The answers (SMPP 3.4, 5.1.3) that something hangs on here."""

    ESME_ROK = 0x00
    ESME_RINVCMDLEN = 0x02
    ESME_RINVCMDID = 0x03
    ESME_RINVBNDSTS = 0x04
    ESME_RSYSERR = 0x08
    ESME_RINVDSTADR = 0x0B
    ESME_RBINDFAIL = 0x0D
    ESME_RINVPASWD = 0x0E
    ESME_RINVSYSID = 0x0F
    ESME_RMSGQFUL = 0x14
    ESME_RINVSYSTYP = 0x53
    ESME_RTHROTTLED = 0x58
    ESME_RX_T_APPN = 0x64  # we can't for now
    ESME_RX_P_APPN = 0x65  # we never can


BIND_PATIENCE: Mapping[int, int] = {
    Status.ESME_RINVPASWD: 1,
    Status.ESME_RINVSYSID: 1,
    Status.ESME_RINVSYSTYP: 1,
    # A minute or two: also said as long as our last link, cut off, is still open for the SMSC.
    Status.ESME_RBINDFAIL: 8,
}
"""After how many refusals in a row of a bind our settings are wrong; after others never."""


class Answer(NamedTuple):
    """What the SMSC says to a request; `message_id` is its own, "" where there is none."""

    status: int
    message_id: str

    @property
    def code(self) -> str:
        """The status by the standard's name, or in hexadecimal if it has none."""
        return NAMES.get(self.status, f"0x{self.status:08x}")


@dataclass(frozen=True)
class Delivery:
    """What the SMSC brings: a receipt, or somebody's message. `options` are TLVs by tag.

    A receipt often quotes the text that it is of: repr hides it. `sender` and `called` are a type
    of number and what it is of.
    """

    esm_class: int
    text: bytes = field(repr=False)
    options: Mapping[int, bytes] = field(repr=False)
    data_coding: int = 0
    sender: tuple[int, str] = field(default=(0, ""), repr=False)
    called: tuple[int, str] = field(default=(0, ""), repr=False)


Receive = Callable[[Delivery], Awaitable[Status]]
"""Deals with a delivery; what it gives is our answer. After an exception the SMSC tries again."""


@dataclass(frozen=True)
class Smsc:
    """Where it is, and who we are to it."""

    host: str
    port: int
    system_id: str = field(repr=False)
    password: Secret
    tls: SSLContext | None = None


@dataclass(frozen=True)
class LinkPace:
    """How patient a link is, in seconds."""

    connect: float = 5.0
    ready: float = 2.0  # a submission waits so long for a link
    answer: float = 10.0  # with it this must end before the dispatcher's patience, half a lease
    enquire: float = 30.0  # between two questions whether the SMSC is still there
    unbind: float = 1.0
    first: float = 1.0  # before a lost link is made again; doubled each time
    longest: float = 60.0


class NotSubmittedError(Exception):
    """Nothing was written: there is no link."""


class BindRefusedError(Exception):
    """The SMSC does not let us in; with these settings it never will."""


class AnswerLostError(Exception):
    """Written, and not answered; `late` is done when it is after all, None if it can't be."""

    def __init__(self, late: asyncio.Future[Answer | None]) -> None:
        self.code = "cut" if late.done() else "timeout"
        super().__init__(self.code)
        self.late = late


class Link:
    """Keeps us bound to an SMSC as a transceiver; made by `open_link`."""

    def __init__(self, smsc: Smsc, pace: LinkPace, receive: Receive, chance: Chance) -> None:
        self._smsc = smsc
        self._pace = pace
        self._receive = receive
        self._chance = chance
        self._session: _Session | None = None
        self._refusal: str | None = None
        self._refusals = 0  # in a row
        self._decided = asyncio.Event()  # we are bound, or never will be

    async def submit(self, **fields: Any) -> Answer:
        """Submit one SMS, once; the fields are those of a submit_sm.

        NotSubmittedError, AnswerLostError, BindRefusedError.
        """
        session = await self._bound()
        answer = await session.answered(session.ask("submit_sm", **fields), self._pace.answer)
        if answer.status == Status.ESME_RINVBNDSTS:  # it has forgotten us
            session.cut("forgotten")
        return answer

    async def _bound(self) -> "_Session":
        try:
            async with asyncio.timeout(self._pace.ready):
                while self._refusal is None:
                    if self._session is not None and not self._session.ended:
                        return self._session
                    self._decided.clear()  # the link may be lost this very moment
                    await self._decided.wait()
        except TimeoutError:
            raise NotSubmittedError from None
        raise BindRefusedError(self._refusal)

    async def run(self) -> None:
        """Connect and bind, again and again, until cancelled or refused for good."""
        delays = self._delays()
        while self._refusal is None:
            try:
                if await self._hold():
                    delays = self._delays()
            except (OSError, TimeoutError) as error:
                log.warning("smsc_unreachable", why=type(error).__name__)
            except Exception:  # a fault of ours: the link is needed all the same
                log.exception("smpp_link_failed")
            if self._refusal is None:
                await asyncio.sleep(next(delays))
        self._decided.set()

    async def _hold(self) -> bool:
        """Hold one connection until it ends; say whether it was bound."""
        async with asyncio.timeout(self._pace.connect):
            reader, writer = await asyncio.open_connection(
                self._smsc.host, self._smsc.port, ssl=self._smsc.tls
            )
        session = _Session(reader, writer, self._receive, self._pace)
        reading = asyncio.create_task(session.run())
        bound = False
        try:
            bound = await self._bind(session)
            if bound:
                self._session = session
                self._decided.set()
                await session.over.wait()  # not for all that was brought and is not dealt with
                log.warning("smpp_link_lost", why=session.ended)
        finally:
            self._decided.clear()
            self._session = None
            if bound and not session.ended:
                await session.unbind()
            session.cut("stopped")
            reading.cancel()  # deliveries not dealt with yet, the SMSC brings again
            await asyncio.wait([reading])
        return bound

    async def _bind(self, session: "_Session") -> bool:
        asked = session.ask(
            "bind_transceiver",
            system_id=self._smsc.system_id,
            password=self._smsc.password.reveal(),
        )
        try:
            answer = await session.answered(asked, self._pace.answer)
        except AnswerLostError as lost:
            log.warning("smpp_bind_unanswered", why=lost.code)
            return False
        if answer.status == Status.ESME_ROK:
            log.info("smpp_bound")
            self._refusals = 0
            return True
        log.error("smpp_bind_refused", code=answer.code)
        self._refusals += 1
        if self._refusals >= BIND_PATIENCE.get(answer.status, self._refusals + 1):
            self._refusal = answer.code
        return False

    def _delays(self) -> Iterator[float]:
        delay = self._pace.first
        while True:
            yield delay * (1 + self._chance(JITTER_STEPS + 1) / JITTER_STEPS) / 2
            delay = min(2 * delay, self._pace.longest)


@asynccontextmanager
async def open_link(
    smsc: Smsc, receive: Receive, chance: Chance, pace: LinkPace | None = None
) -> AsyncIterator[Link]:
    """Give a link in the running loop, bound as soon as may be; in the end we unbind."""
    link = Link(smsc, pace or LinkPace(), receive, chance)
    running = asyncio.create_task(link.run())
    try:
        yield link
    finally:
        running.cancel()
        await asyncio.wait([running])


class _Session:
    """One connection; `ended` says why it is none any more, "" as long as it is one."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        receive: Receive,
        pace: LinkPace,
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._receive = receive
        self._pace = pace
        self._sequence = 0
        self._unanswered: dict[int, asyncio.Future[Answer | None]] = {}
        self._deliveries: asyncio.Queue[tuple[int, Delivery]] = asyncio.Queue(MOST_DELIVERIES)
        self.ended = ""
        self.over = asyncio.Event()

    def ask(self, command: str, **fields: Any) -> asyncio.Future[Answer | None]:
        """Write a request; its answer comes, or None when the connection has ended."""
        asked: asyncio.Future[Answer | None] = asyncio.get_running_loop().create_future()
        if self.ended:
            asked.set_result(None)
            return asked
        self._sequence = self._sequence % LAST_SEQUENCE + 1
        if len(self._unanswered) >= MOST_UNANSWERED:
            self._unanswered.pop(next(iter(self._unanswered))).set_result(None)
        self._unanswered[self._sequence] = asked
        self._write(command, self._sequence, **fields)
        return asked

    async def answered(self, asked: asyncio.Future[Answer | None], seconds: float) -> Answer:
        """Wait for the answer to a request; AnswerLostError if it does not come in time."""
        await asyncio.wait([asked], timeout=seconds)
        answer = asked.result() if asked.done() else None
        if answer is None:
            raise AnswerLostError(asked)
        return answer

    async def run(self) -> None:
        """Take what the SMSC sends until the connection ends."""
        helpers = [asyncio.create_task(work()) for work in (self._keep_alive, self._deal)]
        try:
            self.cut(await self._read())
        except Exception:  # a fault of ours: then there is a next connection
            log.exception("smpp_session_failed")
            self.cut("failed")
        finally:
            for helper in helpers:
                helper.cancel()
            await asyncio.wait(helpers)

    def cut(self, why: str) -> None:
        """End the connection at once, if it has not ended, and tell all who wait for an answer."""
        if self.ended:
            return
        self.ended = why
        self.over.set()
        self._writer.transport.abort()
        for asked in self._unanswered.values():
            asked.set_result(None)
        self._unanswered.clear()

    async def unbind(self) -> None:
        """Take leave of the SMSC, for as long as it cares to answer."""
        await asyncio.wait([self.ask("unbind")], timeout=self._pace.unbind)

    async def _read(self) -> str:
        """Take one PDU after the other; give why there is no more."""
        try:
            while True:
                head = await self._reader.readexactly(16)
                length, command, status, sequence = struct.unpack(">LLLL", head)
                if not 16 <= length <= LARGEST_PDU:
                    return "not-smpp"
                body = await self._reader.readexactly(length - 16)
                if command & RESPONSE:
                    self._answer(sequence, status, body)
                elif not await self._request(command, sequence, head + body):
                    return "unbound"
        except asyncio.IncompleteReadError:
            return "closed"
        except OSError as error:
            return type(error).__name__

    def _answer(self, sequence: int, status: int, body: bytes) -> None:
        asked = self._unanswered.pop(sequence, None)
        if asked is not None:  # else nobody waits for it any more
            identifier = body.partition(b"\0")[0].decode("ascii", "replace")
            asked.set_result(Answer(status, identifier))

    async def _request(self, command: int, sequence: int, pdu: bytes) -> bool:
        """Do what the SMSC asks of us; False if it is to end the link."""
        match _COMMANDS.get(command):
            case "enquire_link":
                self._write("enquire_link_resp", sequence)
            case "unbind":
                self._write("unbind_resp", sequence)
                return False
            case "deliver_sm":
                delivery = _delivery(pdu)
                if delivery is None:
                    self._write("generic_nack", sequence, Status.ESME_RINVCMDLEN)
                else:
                    await self._deliveries.put((sequence, delivery))
            case _:
                self._write("generic_nack", sequence, Status.ESME_RINVCMDID)
        return True

    async def _deal(self) -> None:
        """Deal with deliveries one by one; answered only when that is done (nothing is lost)."""
        put_off = False
        while True:
            sequence, delivery = await self._deliveries.get()
            try:
                status = await self._receive(delivery)
                put_off = False
            except StoreDownError as error:
                if not put_off:  # once: an SMSC brings hundreds
                    log.error("smpp_deliveries_put_off", why=str(error))
                status, put_off = Status.ESME_RX_T_APPN, True
            except Exception:  # a fault of ours: the SMSC is to bring it again
                log.exception("smpp_delivery_failed")
                status = Status.ESME_RX_T_APPN
            self._write("deliver_sm_resp", sequence, status)

    async def _keep_alive(self) -> None:
        """Ask now and then whether the SMSC is still there."""
        try:
            while True:
                await asyncio.sleep(self._pace.enquire)
                await self.answered(self.ask("enquire_link"), self._pace.answer)
        except AnswerLostError:
            self.cut("mute")

    def _write(
        self, command: str, sequence: int, status: int = Status.ESME_ROK, **fields: Any
    ) -> None:
        if self.ended:
            return
        pdu = smpp.make_pdu(command, sequence=sequence, **fields)
        pdu.sequence, pdu.status = sequence, status
        self._writer.write(pdu.generate())


NAMES: Mapping[int, str] = {
    status: name.removeprefix("SMPP_")
    for name, status in vars(consts).items()
    if name.startswith("SMPP_ESME_")
}
_COMMANDS = {code: name for name, code in command_codes.commands.items()}


def _delivery(data: bytes) -> Delivery | None:
    """Read a deliver_sm; None if it is cut short."""
    pdu = smpp.make_pdu("deliver_sm", sequence=1)
    options: dict[int, bytes] = {}
    pdu.parse_optional_params = lambda tlvs: options.update(_options(tlvs))
    pdu.parse(data)
    text = pdu.short_message
    if text is None or len(text) < pdu.sm_length:
        return None
    sender = pdu.source_addr_ton, pdu.source_addr.decode("ascii", "replace")
    called = pdu.dest_addr_ton, pdu.destination_addr.decode("ascii", "replace")
    return Delivery(pdu.esm_class, text, options, pdu.data_coding, sender, called)


def _options(tlvs: bytes) -> Iterator[tuple[int, bytes]]:
    """Read optional parameters as far as they go; some SMSCs put a stray NUL at the end."""
    at = 0
    while at + 4 <= len(tlvs):
        tag, length = struct.unpack_from(">HH", tlvs, at)
        yield tag, tlvs[at + 4 : at + 4 + length]
        at += 4 + length
