"""The AGI session of one call: pyst2's commands on a transport of our own.

pyst2 installs a signal handler, writes every reply to stderr, escapes nothing, takes a hang-up for
a ValueError and loses `(timeout)`; all of that is mended here, and nothing else imports it.

Asterisk throws away the keys pressed while no command runs, so one always runs when a key may come:
a Background that ends with a silence, or a `WAIT FOR DIGIT -1`. Such a wait is never ended to send
the next command: that command ends it, and Asterisk answers the wait first. Replies therefore come
in the order of the commands, one for each.

Source: run_agi, parse_args, handle_exec and handle_waitfordigit in Asterisk 22's res/res_agi.c.
"""

import re
import socket
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future
from typing import Any

from asterisk.agi import (
    AGI,
    AGIAppError,
    AGIError,
    AGIHangup,
    AGIInvalidCommand,
    AGIResultHangup,
    AGIUsageError,
)

from ivr.hub import Hub, Waiter

__all__ = [
    "AGIAppError",
    "AGIError",
    "AGIHangup",
    "AGIInvalidCommand",
    "AGIResultHangup",
    "AGIUsageError",
    "Agi",
    "Result",
]

Result = dict[str, tuple[str, str]]
"""A reply as pyst2 has it: `result` and other keys, each with its value and the text in ( )."""

REPLY_SECONDS = 15.0  # for a command that answers at once; far beyond a busy Asterisk
PLAY_SECONDS = 300.0  # for prompts: beyond the longest of them

COMMAND_BYTES = 2_048  # the longest line that every version of Asterisk reads
LINE_BYTES = 8_192  # the longest line taken from Asterisk
ENVIRONMENT_LINES = 200  # about 25, and up to 127 arguments of the dialplan's AGI()
USAGE_LINES = 200

# Asterisk reads lines into a buffer, but looks only at the socket for the next line or to end a
# wait. Of two lines that it reads at once, the second stays unseen until one more comes: so it gets
# time to read the first (measured: up to 2 ms on an idle machine), and else is nudged.
SETTLE_SECONDS = 0.02
NUDGE_SECONDS = 0.1

_WAIT = "WAIT FOR DIGIT -1"
_NUDGE = "NOOP"
_KEYS = frozenset("0123456789*#")  # A to D exist, but on no telephone that people have

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_FILE = re.compile(r"[a-z0-9_-]+(?:/[a-z0-9_-]+)*")
_RESULT = re.compile(r"200 result=([^\s(]*)(?: \((.*)\))?((?: \w+=\S+)*)")


class Agi(AGI):  # type: ignore[misc]  # pyst2 has no types
    """One call's session, for the one greenlet of that call.

    `connection` is the socket that Asterisk opened; the session owns it from now on and reads the
    environment from it into `env`. `typed` holds the keys pressed and not yet taken by a question,
    in order. Seconds are the longest that Asterisk may stay silent.

    Every method raises AGIHangup once the call has ended, however Asterisk shows it: a HANGUP line,
    a dead channel, a closed or broken connection, silence. Other AGIErrors: AGIInvalidCommand and
    AGIUsageError for a command that Asterisk refuses, AGIAppError for one that failed, AGIError for
    a reply that is none. No text of theirs holds a key or a reply. Arguments that could smuggle in
    a second command are refused by ValueError before anything is sent.

    pyst2's own commands must answer within `reply_seconds`; what lasts longer is the dialplan's.
    """

    def __init__(
        self,
        connection: socket.socket,
        hub: Hub,
        *,
        reply_seconds: float = REPLY_SECONDS,
        play_seconds: float = PLAY_SECONDS,
    ) -> None:
        self.typed: deque[str] = deque()
        self._socket = connection
        self._reply_seconds = reply_seconds
        self._play_seconds = play_seconds
        self._buffer = bytearray()
        self._owed: list[str] = []  # commands whose reply is still to be read, oldest first
        self._sent_at = 0.0  # when the last of them was
        self._hub = hub
        self._waiter = Waiter(hub, connection.fileno())
        connection.setblocking(False)
        self._tcp = connection.family in (socket.AF_INET, socket.AF_INET6)
        if self._tcp:  # else the command that ends a wait would itself wait for an ACK (Nagle)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.env = self._read_environment()

    def play(self, files: Sequence[str]) -> None:
        """Play sound files without gaps until the last ends or a key is pressed, which is kept.

        Files are named without extension, such as `svi/accueil`. Nothing is played if keys are
        already waiting (barge-in).
        """
        line = _exec_line("Background", files)
        self._settle()
        if not self.typed:
            self._keep_key(self._command(line, self._play_seconds))

    def announce(self, files: Sequence[str]) -> None:
        """Play sound files to the end; keys pressed meanwhile are lost."""
        self._keep_key(self._command(_exec_line("Playback", files), self._play_seconds))

    def wait_key(self, timeout: float, until: "Future[Any] | None" = None) -> bool:
        """Wait for a key, or collect keys until a future is done; `timeout` seconds at most.

        Say whether keys wait to be taken. Asterisk goes on listening when the time is up, so that
        no key is lost before the next command.
        """
        deadline = time.monotonic() + timeout
        while not (until.done() if until else self.typed) and time.monotonic() < deadline:
            self._listen()
            if self._arrives(deadline, until):
                self._take_owed()
        return bool(self.typed)

    def join(self, work: "Future[Any]") -> None:
        """Wait until a future is done, even if the call has ended."""
        self._hub.join(work)

    def close(self) -> None:
        """End the session; Asterisk goes on in its dialplan. Safe to call twice."""
        self._waiter.close()
        self._socket.close()
        self._owed.clear()

    def execute(self, command: str, *args: object) -> Result:
        """Send one of pyst2's commands and give its result."""
        line = " ".join([command, *map(str, args)]).rstrip()
        result = self._command(line, self._reply_seconds)
        if result["result"][0] == "-1":
            if result["result"][1] == "hangup":
                raise AGIResultHangup("the caller hung up")
            raise AGIAppError("the command failed, or the caller hung up")
        return result

    def _quote(self, value: object) -> str:
        """Quote an argument so that parse_args of res_agi reads it back unchanged."""
        text = str(value).replace("\\", "\\\\").replace('"', '\\"')
        return f'"{text}"'

    # The commands and their replies

    def _command(self, line: str, seconds: float) -> Result:
        """Send a line and give its result, after taking those of the commands before it."""
        wire = _wire(line)
        self._settle()
        self._send(wire)
        self._catch_up()
        return self._read_result(seconds)

    def _listen(self) -> None:
        """Have Asterisk wait for a key, unless it does already."""
        if _WAIT not in self._owed:
            self._settle()
            self._send_owing(_WAIT)

    def _settle(self) -> None:
        """Leave Asterisk the time to read the last line, and take the replies that are there.

        Afterwards no reply is owed but that of a running wait.
        """
        deadline = time.monotonic() + self._reply_seconds
        while self._owed:
            waiting = self._owed[0] == _WAIT
            nudge_at = time.monotonic() + NUDGE_SECONDS
            if self._arrives(self._sent_at + SETTLE_SECONDS if waiting else nudge_at):
                self._take_owed()
            elif waiting:
                break
            else:
                self._nudge(deadline)

    def _catch_up(self) -> None:
        """Read the reply of the wait that the command just sent has ended.

        A wait that a key has ended doesn't show that Asterisk sees the command: then nudge, too.
        """
        deadline = time.monotonic() + self._reply_seconds
        while self._owed and not self._arrives(time.monotonic() + NUDGE_SECONDS):
            self._nudge(deadline)
        if self._owed and self._take_owed():
            self._nudge(deadline)

    def _nudge(self, deadline: float) -> None:
        if time.monotonic() > deadline:
            raise self._lost("Asterisk doesn't answer")
        self._send_owing(_NUDGE)

    def _take_owed(self) -> bool:
        """Read the oldest reply owed; say whether it brought a key."""
        command = self._owed.pop(0)
        result = self._read_result(self._reply_seconds)
        if self._tcp:  # Asterisk holds back its next reply until this one is acknowledged: 40 ms
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
        return command == _WAIT and self._keep_key(result)

    def _keep_key(self, result: Result) -> bool:
        """Keep the key whose ASCII code is the result, if it is one."""
        code = result["result"][0]
        if code == "-1":
            raise self._lost("the caller hung up")
        key = chr(int(code)) if code.isascii() and code.isdigit() and len(code) < 4 else ""
        if key in _KEYS:
            self.typed.append(key)
        return key in _KEYS

    def _read_result(self, seconds: float) -> Result:
        deadline = time.monotonic() + seconds
        line = self._read_line(deadline)
        match = _RESULT.fullmatch(line)
        if not match:
            raise self._refusal(line, deadline)
        value, data, others = match.groups(default="")
        result = {"result": (value, data)}
        for field in others.split():
            name, _, value = field.partition("=")
            result[name] = (value, "")
        return result

    def _refusal(self, line: str, deadline: float) -> AGIError:
        """Say what a reply other than 200 means."""
        match line[:4]:
            case "510 ":
                return AGIInvalidCommand("Asterisk doesn't know the command")
            case "511 ":
                return self._lost("the channel is dead")
            case "520 ":
                return AGIUsageError("Asterisk refuses the command's arguments")
            case "520-":
                return self._usage(deadline)
        return self._garbled("Asterisk's reply is not AGI")

    def _usage(self, deadline: float) -> AGIError:
        """Pass over the usage that a 520 tells in many lines."""
        for _ in range(USAGE_LINES):
            if self._read_line(deadline).startswith("520 "):
                return AGIUsageError("Asterisk refuses the command's arguments")
        return self._garbled("Asterisk's reply is too long")

    # The environment and the transport

    def _read_environment(self) -> dict[str, str]:
        """Read the `agi_…: value` lines; whatever callers may have written, values are one line."""
        deadline = time.monotonic() + self._reply_seconds
        env: dict[str, str] = {}
        for _ in range(ENVIRONMENT_LINES):
            line = self._read_line(deadline)
            if not line:
                return env
            key, _, value = "".join(filter(str.isprintable, line)).partition(":")
            if key.startswith("agi_"):
                env[key] = value.strip()
        raise self._garbled("the AGI environment is too long")

    def _read_line(self, deadline: float) -> str:
        while (end := self._buffer.find(b"\n")) < 0:
            if len(self._buffer) > LINE_BYTES:
                raise self._garbled("a line from Asterisk is too long")
            self._receive(deadline)
        line = self._buffer[:end].decode(errors="replace")  # caller names arrive cut
        del self._buffer[: end + 1]
        if line == "HANGUP":
            raise self._lost("the caller hung up")
        return line

    def _receive(self, deadline: float) -> None:
        if not self._waiter.wait(deadline):
            raise self._lost("Asterisk doesn't answer")
        try:
            received = self._socket.recv(LINE_BYTES)
        except OSError as error:
            raise self._lost("the connection to Asterisk broke") from error
        if not received:
            raise self._lost("Asterisk closed the connection")
        self._buffer += received

    def _arrives(self, deadline: float, until: "Future[Any] | None" = None) -> bool:
        """Wait for something from Asterisk; False if the time, or the future, came first."""
        return b"\n" in self._buffer or self._waiter.wait(deadline, until)

    def _send_owing(self, line: str) -> None:
        """Send a command whose reply is read later."""
        self._send(_wire(line))
        self._owed.append(line)
        self._sent_at = time.monotonic()

    def _send(self, wire: bytes) -> None:
        try:
            self._socket.sendall(wire)
        except OSError as error:
            raise self._lost("the connection to Asterisk broke") from error

    def _lost(self, reason: str) -> AGIHangup:
        """Close the session for good and give what is to be raised."""
        self.close()
        return AGIHangup(reason)

    def _garbled(self, reason: str) -> AGIError:
        """Close the session, since replies can no longer be told apart."""
        self.close()
        return AGIError(reason)


def _exec_line(application: str, files: Sequence[str]) -> str:
    if not files or not all(map(_FILE.fullmatch, files)):
        raise ValueError("sound files are named by lower-case letters, digits, - _ and /")
    return f'EXEC {application} "{"&".join(files)}"'


def _wire(line: str) -> bytes:
    """Give the bytes of a command; ValueError if Asterisk would read another one."""
    if _CONTROL.search(line):
        raise ValueError("an AGI command holds a control character")
    wire = f"{line}\n".encode()
    if len(wire) > COMMAND_BYTES:
        raise ValueError(f"an AGI command is longer than {COMMAND_BYTES} bytes")
    return wire
