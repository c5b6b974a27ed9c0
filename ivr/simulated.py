"""A simulated Asterisk with one caller: it calls the voice server over AGI, in no time.

It does what res_agi.c does in Asterisk 22: the same reading of lines and quotes, the same answers,
the same keys lost while no command runs. Only the sound is missing: files end as they begin.
"""

import select
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from secrets import token_hex
from typing import NamedTuple, Self

from ivr.hub import Wakeup

HANG_UP = "hang up"
"""In place of a group of keys: the caller hangs up when that question is asked."""

CONNECT_SECONDS = 2.0  # as Asterisk's

_SILENCE = "silence-"  # how the sound files begin that give the caller time to type


class Ending(StrEnum):
    """How a call left the voice server."""

    CALLER = "caller"  # the caller hung up
    SERVER = "server"  # the server hung up, by the command
    DIALPLAN = "dialplan"  # the server closed the connection: the dialplan goes on
    CUT = "cut"  # the connection broke (Faults)


def _as_usual(_: str) -> None:
    return None


@dataclass(frozen=True)
class Faults:
    """How this Asterisk misbehaves, for tests."""

    reply: Callable[[str], bytes | None] = _as_usual
    """Gives the bytes to send in place of a command's reply, or None for the usual one."""
    cut_after_bytes: int | None = None
    """The connection is cut when so much has been sent to the server."""
    delay: float = 0.0
    """Seconds before each command is read."""


class SimulatedCall:
    """A call, in a thread of its own; as a context manager it hangs up at the end.

    `groups` is what the caller types, one group at each question (a Background that ends with a
    silence), in one go: what the question doesn't take is typed ahead. An empty group answers with
    silence, HANG_UP by hanging up. Out of groups the caller stays silent; if `patient`, a question
    then lasts until `type`, `press` or `hang_up`. A withheld `caller` is "". `moved` is the caisse
    in whose name a call comes back that an incident moved (extensions.conf).

    `heard` has the prompts of which the caller heard anything, in order, without `svi/` and without
    silences; `commands` the lines of the server; `variables` what it set. OSError if no server
    answers at `address`.
    """

    def __init__(  # noqa: PLR0913  # all but the first by name, and optional
        self,
        address: tuple[str, int],
        *,
        line: str = "3230",
        caller: str = "0612345678",
        caller_name: str = "",
        moved: str = "",
        groups: Iterable[str] = (),
        patient: bool = False,
        faults: Faults | None = None,
    ) -> None:
        self.heard: list[str] = []
        self.commands: list[str] = []
        self.variables: dict[str, str] = {}
        self._groups = deque(groups)
        self._patient = patient
        self._faults = faults or Faults()
        self._keys: deque[str] = deque()  # typed, not yet taken by a command
        self._listening = False  # a command runs that takes keys
        self._ending: Ending | None = None
        self._ended = False
        self._changed = threading.Condition()  # guards what this thread shares with the others
        self._wakeup = Wakeup()
        self._dead = False  # the channel is, and the server was told
        self._sent = 0
        self._buffer = b""
        self._socket = socket.create_connection(address, CONNECT_SECONDS)
        self._socket.settimeout(None)
        self.channel = f"Simulated/{line}-{token_hex(4)}"
        values = _environment(address, self.channel, line, caller, caller_name)
        if moved:
            values |= {"network_script": "incident", "context": "incident", "extension": moved}
            values["arg_1"] = line
        environment = "".join(f"agi_{name}: {value}\n" for name, value in values.items()) + "\n"
        self._thread = threading.Thread(
            target=self._run, args=[environment], name="simulated-call", daemon=True
        )
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.hang_up()
        self._thread.join()

    def type(self, keys: str) -> None:
        """Type keys, each as soon as a command takes it."""
        with self._changed:
            self._keys.extend(keys)
        self._wakeup.set()

    def press(self, key: str) -> bool:
        """Press a key at this instant; False if it is lost, since no command takes it."""
        with self._changed:
            taken = self._listening
            if taken:
                self._keys.append(key)
                self._listening = False
        self._wakeup.set()
        return taken

    def hang_up(self) -> None:
        """Hang up."""
        with self._changed:
            self._ending = self._ending or Ending.CALLER
        self._wakeup.set()

    def wait_heard(self, prompt: str, timeout: float) -> None:
        """Wait until the caller has heard a prompt; TimeoutError after `timeout` seconds."""
        self._wait_for(lambda: prompt in self.heard or self._ended, timeout)
        if prompt not in self.heard:
            raise TimeoutError("the call ended without that prompt")

    def wait_end(self, timeout: float) -> Ending:
        """Wait until the call has left the server; TimeoutError after `timeout` seconds."""
        self._wait_for(lambda: self._ended, timeout)
        return self._ending or Ending.DIALPLAN

    def _wait_for(self, condition: Callable[[], bool], timeout: float) -> None:
        with self._changed:
            if not self._changed.wait_for(condition, timeout):
                raise TimeoutError(f"not within {timeout} s")

    # The session, as run_agi has it

    def _run(self, environment: str) -> None:
        try:
            self._send(environment.encode())
            while (line := self._next_line()) is not None:
                reply = self._faults.reply(line)
                self._send(f"{self._reply(line)}\n".encode() if reply is None else reply)
        except ConnectionError:
            pass  # cut, or the server is gone: the call is over either way
        finally:
            self._end()

    def _end(self) -> None:
        self._socket.close()
        self._wakeup.close()
        with self._changed:
            self._ending = self._ending or Ending.DIALPLAN
            self._ended = True
            self._changed.notify_all()

    def _next_line(self) -> str | None:
        """Read a command; None at the end.

        A line that came together with the one before it stays unseen until more comes: Asterisk
        polls the socket, not what it has already read.
        """
        time.sleep(self._faults.delay)
        self._tell_hang_up()
        while not self._poll(self._socket):
            self._tell_hang_up()
        while b"\n" not in self._buffer:
            received = self._socket.recv(4096)
            if not received:
                return None
            self._buffer += received
        line, _, self._buffer = self._buffer.partition(b"\n")
        with self._changed:
            self.commands.append(line.decode(errors="replace"))
        return self.commands[-1]

    def _tell_hang_up(self) -> None:
        if self._ending and not self._dead:
            self._dead = True
            self._send(b"HANGUP\n")

    def _send(self, data: bytes) -> None:
        limit = self._faults.cut_after_bytes
        if limit is not None and self._sent + len(data) >= limit:
            self._socket.sendall(data[: limit - self._sent])
            self._ending = Ending.CUT
            raise ConnectionAbortedError
        self._socket.sendall(data)
        self._sent += len(data)

    def _poll(self, *connections: socket.socket) -> bool:
        """Wait for the server (True) or for something that the caller does (False)."""
        poll = select.poll()
        poll.register(self._wakeup, select.POLLIN)
        for connection in connections:
            poll.register(connection, select.POLLIN)
        ready = {fd for fd, _ in poll.poll()}
        self._wakeup.clear()
        return any(connection.fileno() in ready for connection in connections)

    # The commands

    def _reply(self, line: str) -> str:
        arguments = parse_arguments(line)
        for words, command in _COMMANDS.items():
            if [argument.upper() for argument in arguments[: len(words)]] == list(words):
                return self._carry_out(command, arguments[len(words) :])
        return "510 Invalid or unknown command"

    def _carry_out(self, command: "_Command", arguments: Sequence[str]) -> str:
        if self._dead and not command.on_dead_channel:
            return "511 Command Not Permitted on a dead channel or intercept routine"
        if len(arguments) not in command.arguments:
            return _USAGE
        return f"200 result={command.run(self, *arguments)}"

    def _answer(self) -> str:
        return "-1" if self._ending else "0"

    def _exec(self, application: str, options: str = "") -> str:
        files = options.partition(",")[0].split("&")
        match application.lower():
            case "background":
                return self._background(files)
            case "playback":
                return self._playback(files)
        return "-2"  # no such application

    def _background(self, files: Sequence[str]) -> str:
        patient = False
        if not self._keys:  # else the first file is stopped before anything is heard
            self._hear(files)
            if _prompt(files[-1]).startswith(_SILENCE):
                patient = self._patient and not self._groups
                self._answer_question()
        return self._key(wait=patient)

    def _playback(self, files: Sequence[str]) -> str:
        with self._changed:
            self._keys.clear()
        self._hear(files)
        return "-1" if self._ending else "0"

    def _wait_for_digit(self, milliseconds: str) -> str:
        return self._key(self._socket, wait=milliseconds.startswith("-"))

    def _key(self, *aborting: socket.socket, wait: bool) -> str:
        """Give the code of the next key: -1 after a hang-up, 1 if the server aborts, 0 for none."""
        aborted = False
        while True:
            with self._changed:
                self._listening = False
                if self._ending:
                    return "-1"
                if self._keys:
                    return str(ord(self._keys.popleft()))
                if aborted or not wait:
                    return str(int(aborted))
                self._listening = True
            aborted = self._poll(*aborting)

    def _hear(self, files: Sequence[str]) -> None:
        prompts = map(_prompt, files)
        with self._changed:
            self.heard += [prompt for prompt in prompts if not prompt.startswith(_SILENCE)]
            self._changed.notify_all()

    def _answer_question(self) -> None:
        group = self._groups.popleft() if self._groups else ""
        if group == HANG_UP:
            self.hang_up()
        else:
            self.type(group)

    def _set_variable(self, name: str, value: str) -> str:
        with self._changed:
            self.variables[name] = value
        return "1"

    def _get_variable(self, name: str) -> str:
        return f"1 ({self.variables[name]})" if name in self.variables else "0"

    def _noop(self, *_: str) -> str:
        return "0"

    def _hangup(self) -> str:
        with self._changed:
            self._ending = self._ending or Ending.SERVER
        return "1"


class _Command(NamedTuple):
    """What an AGI command does, with how many arguments, and whether a dead channel allows it."""

    run: Callable[..., str]
    arguments: range
    on_dead_channel: bool = False


_COMMANDS: Mapping[tuple[str, ...], _Command] = {
    ("ANSWER",): _Command(SimulatedCall._answer, range(1)),
    ("EXEC",): _Command(SimulatedCall._exec, range(1, 3), on_dead_channel=True),
    ("GET", "VARIABLE"): _Command(SimulatedCall._get_variable, range(1, 2), on_dead_channel=True),
    ("HANGUP",): _Command(SimulatedCall._hangup, range(1)),
    ("NOOP",): _Command(SimulatedCall._noop, range(128), on_dead_channel=True),
    ("SET", "VARIABLE"): _Command(SimulatedCall._set_variable, range(2, 3), on_dead_channel=True),
    ("WAIT", "FOR", "DIGIT"): _Command(SimulatedCall._wait_for_digit, range(1, 2)),
}

_USAGE = """\
520-Invalid command syntax.  Proper usage follows:
Usage: as in the documentation of Asterisk.
520 End of proper usage."""


def parse_arguments(line: str) -> list[str]:
    """Split a command into its words as parse_args of res_agi.c does, quotes and escapes undone."""
    arguments: list[str] = []
    quoted = escaped = False
    between = True  # words
    for character in line:
        if character == "\\" and not escaped:
            escaped = True
            continue
        plain = escaped or character not in '" \t' or (quoted and character != '"')
        if plain or (character == '"' and not quoted):
            if between:
                arguments.append("")
            between = False
        if plain:
            arguments[-1] += character
        elif character == '"':
            quoted = not quoted
        else:
            between = True
        escaped = False
    return arguments


def _prompt(file: str) -> str:
    return file.removeprefix("svi/")


def _environment(
    address: tuple[str, int], channel: str, line: str, caller: str, caller_name: str
) -> dict[str, str]:
    """Give what setup_env of res_agi.c sends first."""
    host, port = address
    return {
        "network": "yes",
        "request": f"agi://{host}:{port}",
        "channel": channel,
        "language": "fr",
        "type": "Simulated",
        "uniqueid": f"simulated-{token_hex(8)}",
        "version": "22",
        "callerid": caller or "unknown",
        "calleridname": caller_name or "unknown",
        "callingpres": "0" if caller else "67",  # 67: not available
        "callingani2": "0",
        "callington": "0",
        "callingtns": "0",
        "dnid": line,
        "rdnis": "unknown",
        "context": "from-trunk",
        "extension": line,
        "priority": "1",
        "enhanced": "0.0",
        "accountcode": "",
        "threadid": str(threading.get_ident()),
    }
