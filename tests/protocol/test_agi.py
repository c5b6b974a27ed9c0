"""The AGI session, against an Asterisk that says exactly what the test has it say."""

import fcntl
import resource
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import ExitStack, closing
from typing import Protocol

import pytest
from hypothesis import given
from hypothesis import strategies as st

import ivr.agi
from ivr.agi import (
    Agi,
    AGIAppError,
    AGIError,
    AGIHangup,
    AGIInvalidCommand,
    AGIResultHangup,
    AGIUsageError,
)
from ivr.hub import Hub
from ivr.simulated import parse_arguments

ENVIRONMENT = b"agi_network: yes\nagi_extension: 3230\nagi_callerid: 0612345678\n\n"
WAIT = "WAIT FOR DIGIT -1"
PLAY = 'EXEC Background "svi/accueil&svi/silence-7000"'
ACCUEIL = ["svi/accueil", "svi/silence-7000"]
SOON = 0.001  # seconds of a wait that is meant to pass
LONG = 60.0  # and of one that is not


class Said(Protocol):
    """Makes a session in which Asterisk has said all of `data` already, and closed."""

    def __call__(self, data: bytes, environment: bytes = ENVIRONMENT) -> Agi: ...


Answering = Callable[[Mapping[str, bytes]], tuple[Agi, list[str]]]


@pytest.fixture
def hub() -> Iterator[Hub]:
    with closing(Hub()) as hub:
        yield hub


@pytest.fixture
def sockets(hub: Hub) -> Iterator[ExitStack]:
    """What is opened here is closed before the hub."""
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def said(sockets: ExitStack, hub: Hub) -> Said:
    def session(data: bytes, environment: bytes = ENVIRONMENT) -> Agi:
        connection, asterisk = map(sockets.enter_context, socket.socketpair())
        asterisk.sendall(environment + data)
        asterisk.shutdown(socket.SHUT_WR)
        return sockets.enter_context(closing(Agi(connection, hub)))

    return session


@pytest.fixture
def answering(sockets: ExitStack, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> Answering:
    """A session in which Asterisk says to each command what `replies` has, and its commands.

    It is never so late that it has to be nudged.
    """
    monkeypatch.setattr(ivr.agi, "NUDGE_SECONDS", LONG)

    def session(replies: Mapping[str, bytes]) -> tuple[Agi, list[str]]:
        connection, asterisk = map(sockets.enter_context, socket.socketpair())
        commands: list[str] = []

        def answer() -> None:
            with asterisk.makefile("r") as lines:
                for line in lines:
                    commands.append(line.rstrip("\n"))
                    try:
                        asterisk.sendall(replies[commands[-1]])
                    except BrokenPipeError:
                        return  # the session is closed already, as a call may be

        asterisk.sendall(ENVIRONMENT)
        thread = threading.Thread(target=answer)
        thread.start()
        sockets.callback(thread.join)
        return sockets.enter_context(closing(Agi(connection, hub))), commands

    return session


# What Asterisk answers


@pytest.mark.parametrize(
    ("reply", "result"),
    [
        pytest.param("200 result=0", {"result": ("0", "")}, id="done"),
        pytest.param("200 result=123", {"result": ("123", "")}, id="digits"),
        pytest.param("200 result=123 (timeout)", {"result": ("123", "timeout")}, id="then silence"),
        pytest.param("200 result= (timeout)", {"result": ("", "timeout")}, id="only silence"),
        pytest.param("200 result=", {"result": ("", "")}, id="# alone"),
        pytest.param("200 result=12*", {"result": ("12*", "")}, id="digits with a star"),
        pytest.param(
            "200 result=49 endpos=8000", {"result": ("49", ""), "endpos": ("8000", "")}, id="endpos"
        ),
        pytest.param(
            "200 result=0 (dtmf) endpos=8",
            {"result": ("0", "dtmf"), "endpos": ("8", "")},
            id="text and endpos",
        ),
        pytest.param("200 result=1 (a (b) c=d)", {"result": ("1", "a (b) c=d")}, id="a variable"),
        pytest.param("200 result=1 ()", {"result": ("1", "")}, id="an empty variable"),
    ],
)
def test_results(said: Said, reply: str, result: dict[str, tuple[str, str]]) -> None:
    assert said(f"{reply}\n".encode()).execute("GET DATA", "svi/accueil") == result


USAGE = "520-Invalid command syntax.  Proper usage follows:\nUsage: 4711\n\n520 End.\n"


@pytest.mark.parametrize(
    ("reply", "error"),
    [
        pytest.param("510 Invalid or unknown command 4711\n", AGIInvalidCommand, id="510"),
        pytest.param("520 Invalid command syntax. 4711\n", AGIUsageError, id="520 on one line"),
        pytest.param(USAGE, AGIUsageError, id="520 on several lines"),
        pytest.param("520-Usage\n" + "4711\n" * 10_000, AGIError, id="520 without end"),
        pytest.param("511 Command Not Permitted on a dead channel\n", AGIHangup, id="511"),
        pytest.param("HANGUP\n", AGIHangup, id="HANGUP"),
        pytest.param("HANGUP\n200 result=4711\n", AGIHangup, id="HANGUP before the result"),
        pytest.param("520-Usage\nHANGUP\n520 End.\n", AGIHangup, id="HANGUP within a 520"),
        pytest.param("200 result=-1\n", AGIAppError, id="the application failed"),
        pytest.param("200 result=-1 (hangup)\n", AGIResultHangup, id="a hang-up says so"),
        pytest.param("", AGIHangup, id="closed"),
        pytest.param("200 result=4711", AGIHangup, id="closed within a line"),
        pytest.param("200 result=4711 (a\nb)\n", AGIError, id="a variable with a line end"),
        pytest.param("200 4711\n", AGIError, id="no result"),
        pytest.param("4711\n", AGIError, id="not AGI"),
        pytest.param("\n", AGIError, id="an empty line"),
        pytest.param("200 result=" + "4711" * 10_000, AGIError, id="a line without end"),
    ],
)
def test_what_is_no_result(said: Said, reply: str, error: type[Exception]) -> None:
    with pytest.raises(error) as raised:
        said(reply.encode()).noop()
    assert raised.type is error
    assert "4711" not in str(raised.value)


@pytest.mark.parametrize("reply", ["510 Invalid\n", USAGE, "200 result=-1\n"])
def test_a_refused_command_leaves_the_session_in_step(said: Said, reply: str) -> None:
    agi = said(f"{reply}200 result=1 (in step)\n".encode())
    with pytest.raises(AGIError):
        agi.noop()
    assert agi.get_variable("STEP") == "in step"


@pytest.mark.parametrize("reply", ["HANGUP\n", "4711\n", "511 dead\n"])
def test_nothing_is_read_after_the_end(said: Said, reply: str) -> None:
    agi = said(f"{reply}200 result=0\n".encode())
    with pytest.raises(AGIError):
        agi.noop()
    for command in (agi.noop, agi.answer, lambda: agi.play(ACCUEIL), lambda: agi.wait_key(LONG)):
        with pytest.raises(AGIHangup):
            command()


@pytest.mark.parametrize("ask", ["play", "announce", "wait_key"])
@pytest.mark.parametrize("reply", ["200 result=-1\n", "511 dead\n", "HANGUP\n", ""])
def test_a_hang_up_while_something_plays_or_keys_are_awaited(
    said: Said, ask: str, reply: str
) -> None:
    agi = said(reply.encode())
    with pytest.raises(AGIHangup):
        agi.wait_key(LONG) if ask == "wait_key" else getattr(agi, ask)(ACCUEIL)


EXCHANGE = ENVIRONMENT + (
    b"200 result=0\n"  # ANSWER
    b"200 result=49\n"  # Background, stopped by 1
    b"200 result=35\n"  # WAIT FOR DIGIT: #
    b"520-Usage:\nNOOP\n520 End.\n"
    b"200 result=1 (adviser)\n"
)


def converse(connection: socket.socket, hub: Hub) -> None:
    with closing(Agi(connection, hub)) as agi:
        agi.answer()
        agi.play(ACCUEIL)
        assert agi.typed.popleft() == "1"
        assert agi.wait_key(LONG)
        assert agi.typed.popleft() == "#"
        with pytest.raises(AGIUsageError):
            agi.noop()
        assert agi.get_variable("SVI_NEXT") == "adviser"


@pytest.mark.parametrize("end", range(len(EXCHANGE) + 1))
def test_the_connection_closes_after_any_byte(hub: Hub, end: int) -> None:
    connection, asterisk = socket.socketpair()
    with asterisk:
        asterisk.sendall(EXCHANGE[:end])
        asterisk.shutdown(socket.SHUT_WR)
        if end == len(EXCHANGE):
            converse(connection, hub)
        else:
            with connection, pytest.raises(AGIHangup):
                converse(connection, hub)


@pytest.mark.parametrize("command", [Agi.noop, lambda agi: agi.wait_key(LONG)])
def test_a_connection_reset(sockets: ExitStack, hub: Hub, command: Callable[[Agi], object]) -> None:
    server = sockets.enter_context(socket.create_server(("127.0.0.1", 0)))
    asterisk = sockets.enter_context(socket.create_connection(server.getsockname()))
    asterisk.sendall(ENVIRONMENT)
    agi = sockets.enter_context(closing(Agi(server.accept()[0], hub)))
    # A close that lingers for 0 s resets the connection.
    asterisk.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    asterisk.close()
    with pytest.raises(AGIHangup):
        command(agi)


@pytest.mark.parametrize("sent", [b"agi_network: yes\n", ENVIRONMENT, ENVIRONMENT + b"200 res"])
def test_an_asterisk_that_falls_silent(hub: Hub, sent: bytes) -> None:
    connection, asterisk = socket.socketpair()
    with connection, asterisk:
        asterisk.sendall(sent)
        with pytest.raises(AGIHangup):
            Agi(connection, hub, reply_seconds=SOON).noop()


def test_an_asterisk_that_falls_silent_in_a_prompt(sockets: ExitStack, hub: Hub) -> None:
    connection, asterisk = map(sockets.enter_context, socket.socketpair())
    asterisk.sendall(ENVIRONMENT)
    with pytest.raises(AGIHangup):
        Agi(connection, hub, play_seconds=SOON).play(ACCUEIL)


# Keys


@pytest.mark.parametrize("key", "0123456789*#")
def test_a_key_stops_a_prompt_and_is_kept(said: Said, key: str) -> None:
    agi = said(f"200 result={ord(key)}\n".encode())
    agi.play(ACCUEIL)
    assert list(agi.typed) == [key]


def test_a_prompt_ends_in_silence(said: Said) -> None:
    agi = said(b"200 result=0\n")
    agi.play(ACCUEIL)
    assert not agi.typed


def test_one_command_plays_all_files(answering: Answering) -> None:
    agi, commands = answering({PLAY: b"200 result=0\n"})
    agi.play(ACCUEIL)
    assert commands == [PLAY]


def test_a_prompt_is_not_played_when_keys_are_waiting(answering: Answering) -> None:
    agi, commands = answering({})
    agi.typed.append("1")
    agi.play(ACCUEIL)
    assert commands == []


def test_an_announcement_is_played_although_keys_are_waiting(answering: Answering) -> None:
    agi, commands = answering({'EXEC Playback "svi/excuse&svi/adieu"': b"200 result=0\n"})
    agi.typed.append("1")
    agi.announce(["svi/excuse", "svi/adieu"])
    assert len(commands) == 1
    assert list(agi.typed) == ["1"]


NOOP = b"200 result=0\n"  # its reply, if Asterisk had to be nudged


def wait_in_vain(agi: Agi, commands: list[str]) -> None:
    """Wait for a key that does not come, until Asterisk has been told."""
    while WAIT not in commands:
        assert not agi.wait_key(SOON)


@pytest.mark.parametrize(
    ("replies", "typed", "nudged"),
    [
        pytest.param(b"200 result=1\n200 result=0\n", "", False, id="no key"),
        pytest.param(b"200 result=52\n200 result=0\n", "4", True, id="key at that instant"),
        pytest.param(b"200 result=1\n200 result=53\n", "5", False, id="key in the prompt"),
        pytest.param(b"200 result=52\n200 result=53\n", "45", True, id="key in both"),
    ],
)
def test_a_prompt_ends_a_running_wait(
    answering: Answering, replies: bytes, typed: str, nudged: bool
) -> None:
    variable = 'GET VARIABLE "STEP"'
    agi, commands = answering(
        {WAIT: b"", PLAY: replies, "NOOP": NOOP, variable: b"200 result=1 (in step)\n"}
    )
    wait_in_vain(agi, commands)
    agi.play(ACCUEIL)
    assert "".join(agi.typed) == typed
    assert agi.get_variable("STEP") == "in step"
    assert commands == [WAIT, PLAY, *["NOOP"] * nudged, variable]


def test_a_key_that_ended_the_wait_stops_the_prompt_before_it_begins(
    answering: Answering, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ivr.agi, "SETTLE_SECONDS", LONG)
    agi, commands = answering({WAIT: b"200 result=52\n"})
    agi._listen()
    agi.play(ACCUEIL)
    assert list(agi.typed) == ["4"]
    assert commands == [WAIT]


def test_any_command_ends_a_running_wait(answering: Answering) -> None:
    line = 'SET VARIABLE "SVI_NEXT" "adviser"'
    agi, commands = answering({WAIT: b"", line: b"200 result=1\n200 result=1\n"})
    wait_in_vain(agi, commands)
    agi.set_variable("SVI_NEXT", "adviser")
    assert commands == [WAIT, line]


def test_a_wait_goes_on_after_its_time(answering: Answering) -> None:
    agi, commands = answering({WAIT: b"", "NOOP": b"200 result=1\n200 result=0\n"})
    wait_in_vain(agi, commands)
    assert not agi.wait_key(SOON)
    agi.noop()  # comes after all the others
    assert commands == [WAIT, "NOOP"]


def test_a_waiting_key_needs_no_command(answering: Answering) -> None:
    agi, commands = answering({})
    agi.typed.append("1")
    assert agi.wait_key(LONG)
    assert commands == []


def test_keys_are_collected_until_the_work_is_done(sockets: ExitStack, hub: Hub) -> None:
    connection, asterisk = map(sockets.enter_context, socket.socketpair())
    work: Future[None] = Future()
    lines: list[str] = []

    def answer() -> None:
        with asterisk.makefile("r") as commands:
            for key in "12#":
                lines.append(commands.readline())
                asterisk.sendall(b"200 result=%d\n" % ord(key))
            lines.append(commands.readline())
            work.set_result(None)

    asterisk.sendall(ENVIRONMENT)
    thread = threading.Thread(target=answer)
    thread.start()
    sockets.callback(thread.join)
    agi = sockets.enter_context(closing(Agi(connection, hub)))
    agi.typed.append("0")
    assert agi.wait_key(LONG, until=work)
    assert "".join(agi.typed) == "012#"
    assert lines == [f"{WAIT}\n"] * 4


@pytest.mark.parametrize("how", ["result", "exception", "cancelled"])
def test_work_that_is_done_already_needs_no_command(answering: Answering, how: str) -> None:
    agi, commands = answering({})
    work: Future[None] = Future()
    match how:
        case "result":
            work.set_result(None)
        case "exception":
            work.set_exception(RuntimeError())
        case "cancelled":
            work.cancel()
    assert not agi.wait_key(LONG, until=work)
    assert commands == []


def test_a_wait_for_work_ends_in_time(answering: Answering) -> None:
    agi, _ = answering({WAIT: b""})
    assert not agi.wait_key(SOON, until=Future())


def test_work_of_before_does_not_end_a_wait(answering: Answering) -> None:
    agi, _ = answering({WAIT: b""})
    earlier: Future[None] = Future()
    assert not agi.wait_key(SOON, until=earlier)
    earlier.set_result(None)
    later: Future[None] = Future()
    timer = threading.Timer(0.1, later.set_result, [None])
    timer.start()
    began = time.thread_time()
    agi.wait_key(LONG, until=later)
    timer.join()
    assert later.done()
    assert time.thread_time() - began < 0.05  # seconds at work: it slept


def test_a_hang_up_does_not_wait_for_the_work(answering: Answering) -> None:
    agi, _ = answering({WAIT: b"200 result=-1\nHANGUP\n"})
    work: Future[None] = Future()
    with pytest.raises(AGIHangup):
        agi.wait_key(LONG, until=work)
    agi.close()
    work.set_result(None)  # and its wake-up finds the session closed


def test_file_descriptors_beyond_1024(sockets: ExitStack, hub: Hub) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    sockets.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
    connection, asterisk = map(sockets.enter_context, socket.socketpair())
    high = socket.socket(fileno=fcntl.fcntl(connection, fcntl.F_DUPFD, 1500))
    asterisk.sendall(ENVIRONMENT + b"200 result=49\n")
    agi = sockets.enter_context(closing(Agi(high, hub)))
    assert agi.wait_key(LONG)


# What callers and the call script put in


TEXT = st.text(st.characters(exclude_categories=["Cc", "Cs"]), max_size=200)


@given(name=TEXT, value=TEXT)
def test_arguments_arrive_unchanged(name: str, value: str) -> None:
    connection, asterisk = socket.socketpair()
    with asterisk, closing(Hub()) as hub:
        asterisk.sendall(ENVIRONMENT + b"200 result=1\n")
        with closing(Agi(connection, hub)) as agi:
            agi.set_variable(name, value)
        line = asterisk.recv(4096).decode()
    assert line.count("\n") == 1
    assert parse_arguments(line.rstrip("\n")) == ["SET", "VARIABLE", name, value]


@pytest.mark.parametrize(
    "value",
    [
        pytest.param('4711"\nEXEC System "id', id="line feed"),
        pytest.param("4711\r", id="carriage return"),
        pytest.param("4711\0", id="NUL"),
        pytest.param("4711\x1b[2J", id="escape"),
        pytest.param("4711\x7f", id="delete"),
        pytest.param("4711\x85", id="next line"),
        pytest.param("4711\ud800", id="half a surrogate pair"),
        pytest.param("4711" * 512, id="2,048 bytes and more"),
        pytest.param("é" * 1024, id="1,024 characters of 2 bytes"),
    ],
)
def test_arguments_that_asterisk_would_misread_are_refused(
    answering: Answering, value: str
) -> None:
    agi, commands = answering({"NOOP": b"200 result=0\n"})
    with pytest.raises(ValueError, match=r"AGI command|surrogates") as raised:
        agi.set_variable("X", value)
    assert "4711" not in str(raised.value)
    agi.noop()
    assert commands == ["NOOP"]


def test_the_longest_command(answering: Answering) -> None:
    line = 'SET VARIABLE "X" "{}"'
    value = "x" * (2_048 - len(line.format("")) - 1)
    agi, commands = answering({line.format(value): b"200 result=1\n"})
    agi.set_variable("X", value)
    assert len(commands[0]) == 2_047


@pytest.mark.parametrize(
    "files",
    [
        [],
        [""],
        ["svi/accueil", "svi/a&svi/b"],
        ["svi/a,skip"],
        ["svi/a b"],
        ['svi/a"'],
        ["svi/${EXTEN}"],
        ["/etc/passwd"],
        ["svi/../../etc"],
        ["svi/accueil.wav"],
        ["svi/accueil\n"],
        ["svi/été"],
    ],
)
@pytest.mark.parametrize("say", ["play", "announce"])
def test_file_names_are_names(answering: Answering, say: str, files: list[str]) -> None:
    agi, commands = answering({})
    with pytest.raises(ValueError, match="sound files"):
        getattr(agi, say)(files)
    assert commands == []


@pytest.mark.parametrize(
    ("sent", "read"),
    [
        pytest.param(b'"Jean" <06>', '"Jean" <06>', id="quotes"),
        pytest.param(b"sip:0612@host:5060", "sip:0612@host:5060", id="colons"),
        pytest.param(b"${SHELL(id)}", "${SHELL(id)}", id="dialplan expression"),
        pytest.param(b"agi_extension: 3238", "agi_extension: 3238", id="posing as another"),
        pytest.param(b"a\rb\x00\x1b[31mc\x7f", "ab[31mc", id="control characters"),
        pytest.param("a\u2028b\u202ec".encode(), "abc", id="line separator, bidi"),
        pytest.param("Zoé".encode()[:-1], "Zo\N{REPLACEMENT CHARACTER}", id="cut character"),
        pytest.param(b"\xff\xfe", "\N{REPLACEMENT CHARACTER}" * 2, id="not UTF-8"),
        pytest.param(b"x" * 3_000, "x" * 3_000, id="3,000 bytes"),
        pytest.param(b"", "", id="nothing"),
    ],
)
def test_a_hostile_caller_name(said: Said, sent: bytes, read: str) -> None:
    agi = said(
        b"200 result=1 (in step)\n",
        environment=b"agi_extension: 3230\nagi_calleridname: " + sent + b"\n\n",
    )
    assert agi.env == {"agi_extension": "3230", "agi_calleridname": read}
    assert agi.get_variable("STEP") == "in step"


def test_other_lines_of_the_environment_are_passed_over(said: Said) -> None:
    agi = said(b"", environment=b"x: y\nagi_dnid: 3230\nGET / HTTP/1.1\n: z\n\n")
    assert agi.env == {"agi_dnid": "3230"}


@pytest.mark.parametrize(
    "environment",
    [
        pytest.param(b"agi_x: y\n" * 10_000, id="10,000 lines"),
        pytest.param(b"agi_x: " + b"y" * 100_000, id="a line without end"),
    ],
)
def test_an_environment_without_end(hub: Hub, environment: bytes) -> None:
    connection, asterisk = socket.socketpair()
    with connection, asterisk:
        asterisk.setblocking(False)
        sent = asterisk.send(environment)
        assert sent > ivr.agi.LINE_BYTES
        with pytest.raises(AGIError) as raised:
            Agi(connection, hub)
        assert raised.type is AGIError


def test_nothing_is_printed(said: Said, capfd: pytest.CaptureFixture[str]) -> None:
    agi = said(b"200 result=49\n" + USAGE.encode())
    agi.play(ACCUEIL)
    with pytest.raises(AGIUsageError):
        agi.noop()
    assert capfd.readouterr() == ("", "")
