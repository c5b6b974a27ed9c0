"""The link to Asterisk's manager (AMI): which calls are in progress, ending and moving one.

It stands on asterisk-ami, whose defects are mended here so that nothing else sees them: an idle
socket kills its listener, CR/LF in a value injects a second action, a partial send cuts an action,
futures are never given back, and what a caller writes in a name can pose as another field.
"""

import itertools
import re
import socket
import threading
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Self

import structlog
from asterisk.ami import Action, AMIClient, Event, LoginAction, Response

from shared.secret import Secret

ANSWER_SECONDS = 3.0  # for any answer; nothing at all for so long: Asterisk is gone
PING_SECONDS = 1.0
FIRST_RETRY_SECONDS = 0.5
LONGEST_RETRY_SECONDS = 30.0

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_NOT_PRINTABLE = re.compile(rb"[^\x20-\x7e]")
# How Hangup and Redirect say so; an unanswered channel can't be redirected.
_NO_SUCH_CHANNEL = ("No such channel", "Channel does not exist", "Redirect failed")
# A name (PJSIP/trunk-0000002a, Local/s@x-00000001;1) or a uniqueid, never a /regular expression/,
# which would end every call that it matches.
_CHANNEL = re.compile(r"[\w.@;:+-]+(/[\w.@;:+-]+)*", re.ASCII)

_log = structlog.get_logger(__name__)


class AsteriskDownError(Exception):
    """Asterisk's manager can't be reached, refuses us, or doesn't answer in time."""


@dataclass(frozen=True)
class CallInProgress:
    """A call that Asterisk holds now; nothing in it says who calls."""

    channel: str
    uniqueid: str
    seconds: int  # since it came in


def retry_delays() -> Iterator[float]:
    """Yield the seconds to wait before each new attempt: doubling, then steady."""
    delay = FIRST_RETRY_SECONDS
    while True:
        yield delay
        delay = min(2 * delay, LONGEST_RETRY_SECONDS)


class AmiLink:
    """A link that one thread keeps up: it logs in, pings, and comes back after any failure.

    Safe to use from any thread. A call takes ANSWER_SECONDS at most, and raises AsteriskDownError
    when the link is down or Asterisk doesn't answer. As a context manager it starts and closes.
    """

    def __init__(self, host: str, port: int, user: str, secret: Secret) -> None:
        """Take address and login; ValueError if the login holds a control character."""
        _check([user, secret.reveal()])
        self._address = (host, port)
        self._user = user
        self._secret = secret
        self._client: _Client | None = None
        self._down = "la liaison avec l'AMI d'Asterisk n'est pas démarrée"
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._supervise, name="ami", daemon=True)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def start(self) -> None:
        """Begin to connect, and return at once."""
        self._thread.start()

    def close(self) -> None:
        """Disconnect and end the thread; a call that waits for its answer raises."""
        self._closing.set()
        if client := self._client:
            client.disconnect()
        self._thread.join()

    def wait_up(self, seconds: float) -> None:
        """Wait until we are logged in; AsteriskDownError, with the reason, after `seconds`."""
        deadline = time.monotonic() + seconds
        while not self.up:
            if time.monotonic() > deadline:
                raise AsteriskDownError(self._down)
            time.sleep(0.05)

    @property
    def up(self) -> bool:
        """Whether we are logged in."""
        client = self._client
        return client is not None and not client.finished.is_set()

    def calls(self) -> list[CallInProgress]:
        """List the calls in progress, without the second leg that one opens to an adviser."""
        events = self._request(Action("CoreShowChannels"))
        try:
            return [_call(event) for event in events if event["Uniqueid"] == event["Linkedid"]]
        except (KeyError, ValueError):
            raise AsteriskDownError("la liste des appels d'Asterisk est illisible") from None

    def hang_up(self, channel_or_uniqueid: str) -> bool:
        """End a call; False if there is none of that name, ValueError if it can't be a name."""
        return self._on_channel("Hangup", channel_or_uniqueid)

    def apologise(self, channel: str) -> bool:
        """Take a call from the voice server, even in mid-prompt, to the dialplan's apology.

        False if there is no call of that name, ValueError if it can't be a name.
        """
        return self._redirect(channel, "apology", "s")

    def announce_incident(self, channel: str, caisse: str) -> bool:
        """Take a call from its AGI session, even in mid-prompt, to an announcement and on (D15).

        False if there is no call of that name, ValueError if it can't be a name.
        """
        return self._redirect(channel, "incident", caisse)

    def _redirect(self, channel: str, context: str, extension: str) -> bool:
        where = {"Context": context, "Exten": extension, "Priority": "1"}
        return self._on_channel("Redirect", channel, **where)

    def _on_channel(self, action: str, channel: str, **fields: str) -> bool:
        if not _CHANNEL.fullmatch(channel):
            raise ValueError("not the name or uniqueid of a channel")
        try:
            self._request(Action(action, {"Channel": channel, **fields}))
        except _RefusedError as error:
            if error.message.startswith(_NO_SUCH_CHANNEL):
                return False
            raise
        return True

    def _request(self, action: Action) -> list[Event]:
        if not (client := self._client):
            raise AsteriskDownError(self._down)
        return client.request(action)

    def _supervise(self) -> None:
        delays = retry_delays()
        while not self._closing.is_set():
            client = _Client(*self._address)
            try:
                client.log_in(self._user, self._secret)
                delays = retry_delays()
                self._stay_up(client)
            except AsteriskDownError as error:
                self._report_down(str(error))
            finally:
                self._client = None
                client.disconnect()
            self._closing.wait(next(delays))

    def _stay_up(self, client: "_Client") -> None:
        self._client = client
        self._down = ""
        _log.info("ami.up")
        while not self._closing.is_set():
            client.finished.wait(PING_SECONDS)  # a cut is noticed at once
            client.request(Action("Ping"))

    def _report_down(self, reason: str) -> None:
        """Log a reason once, not at each new attempt."""
        if reason != self._down and not self._closing.is_set():
            _log.warning("ami.down", reason=reason)
        self._down = reason


class _RefusedError(AsteriskDownError):
    """Asterisk answered `Response: Error`."""

    def __init__(self, action: str, message: str) -> None:
        super().__init__(f"l'AMI d'Asterisk refuse {action} : {message}")
        self.message = message


@dataclass
class _Exchange:
    """An action that waits for its answer, and the events that came as parts of it."""

    action: str
    answer: Future[list[Event]] = field(default_factory=Future)
    events: list[Event] = field(default_factory=list)


class _Client(AMIClient):  # type: ignore[misc]  # the library has no types
    """One connection; its actions, framing and parsing are the library's."""

    def __init__(self, host: str, port: int) -> None:
        super().__init__(host, port, timeout=ANSWER_SECONDS)
        self.finished = threading.Event()
        self._why_finished = "connexion fermée"
        self._ids = itertools.count(1)
        self._exchanges: dict[str, _Exchange] = {}
        self._sending = threading.Lock()

    def log_in(self, user: str, secret: Secret) -> None:
        """Connect and log in; AsteriskDownError says what to mend."""
        try:
            self.connect()
            self.request(LoginAction(user, secret.reveal()))
        except _RefusedError as error:
            raise self._down(f"{error.message} : vérifiez le secret de {user}") from None
        except OSError as error:
            raise self._down(_reason(error)) from None

    def connect(self) -> None:
        """Connect, without leaving a socket behind when that fails."""
        self._socket = socket.create_connection((self._address, self._port), self._timeout)
        self._thread = threading.Thread(target=self.listen, name="ami-listener", daemon=True)
        self._thread.start()

    def disconnect(self) -> None:
        """Close at once, from any thread but the listener's."""
        self.finished.set()
        if self._socket is not None:
            with suppress(OSError):  # it may be closed already
                self._socket.shutdown(socket.SHUT_RDWR)  # close alone wakes no listener
            self._thread.join()

    def request(self, action: Action) -> list[Event]:
        """Send an action and wait for its answer; give the events that are parts of it."""
        action.keys["ActionID"] = action_id = str(next(self._ids))
        _check(action.keys.values())
        exchange = self._exchanges[action_id] = _Exchange(action.name)
        try:
            self.send(action)
            return exchange.answer.result(self._timeout)
        except TimeoutError:
            raise self._down("pas de réponse") from None
        except OSError as error:
            raise self._down(_reason(error)) from None
        finally:
            self._exchanges.pop(action_id, None)

    def send(self, pack: Action) -> None:
        """Send the whole of an action, or end the connection: a half would spoil the next one."""
        with self._sending:
            if self.finished.is_set():
                raise self._down(self._why_finished)
            try:
                self._socket.sendall(f"{pack}\r\n".encode())
            except OSError:
                self.finished.set()
                raise

    def listen(self) -> None:
        """Read until the connection ends, then fail whatever still waits for an answer."""
        try:
            packs = self._next_pack()
            if not self.asterisk_start_regex.match(next(packs, "")):
                self._why_finished = "ce n'est pas l'AMI d'un Asterisk"
                return
            for pack in packs:
                self.fire_recv_pack(pack)
        except OSError as error:
            self._why_finished = _reason(error)
        finally:
            with self._sending:
                self.finished.set()
                self._socket.close()
            for exchange in list(self._exchanges.values()):
                exchange.answer.set_exception(self._down(self._why_finished))

    def fire_recv_reponse(self, response: Response) -> None:
        """Take the answer to an action; more comes if it opens a list of events."""
        action_id = response.keys.get("ActionID")
        if response.keys.get("EventList") == "start":
            return
        if exchange := self._exchanges.pop(action_id, None):
            if response.is_error():
                message = response.keys.get("Message", "sans dire pourquoi")
                exchange.answer.set_exception(_RefusedError(exchange.action, message))
            else:
                exchange.answer.set_result([])

    def fire_recv_event(self, event: Event) -> None:
        """Take an event that is part of an answer; we are sent no others."""
        action_id = event.keys.get("ActionID")
        if event.keys.get("EventList") == "Complete":
            if exchange := self._exchanges.pop(action_id, None):
                exchange.answer.set_result(exchange.events)
        elif exchange := self._exchanges.get(action_id):
            exchange.events.append(event)

    def _decode_pack(self, pack: bytes) -> str:
        """Leave nothing but CR LF that can end a line: what callers write is hostile."""
        lines = pack.split(b"\r\n")
        return "\n".join(_NOT_PRINTABLE.sub(b"?", line).decode("ascii") for line in lines)

    def _down(self, reason: str) -> AsteriskDownError:
        return AsteriskDownError(f"l'AMI d'Asterisk, {self._address}:{self._port} : {reason}")


def _call(event: Event) -> CallInProgress:
    hours, minutes, seconds = (int(part) for part in event["Duration"].split(":"))
    return CallInProgress(
        event["Channel"], event["Uniqueid"], 3600 * hours + 60 * minutes + seconds
    )


def _check(values: Iterable[str]) -> None:
    """ValueError for a control character: CR LF would begin another action."""
    if any(_CONTROL.search(value) for value in values):
        raise ValueError("a value for Asterisk's manager holds a control character")


def _reason(error: OSError) -> str:
    return error.strerror or "pas de réponse"
