"""The simulated Asterisk does what res_agi.c does; and our session against it, over TCP."""

import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import ivr.agi
from ivr.agi import Agi, AGIHangup
from ivr.hub import Hub
from ivr.simulated import HANG_UP, Ending, Faults, SimulatedCall, parse_arguments

LONG = 60.0  # seconds of a wait that is not meant to pass
SOON = 0.001
QUESTION = ["svi/accueil", "svi/silence-7000"]
PLAY = 'EXEC Background "svi/accueil&svi/silence-7000"'
WAIT = "WAIT FOR DIGIT -1"


@pytest.fixture
def server() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(LONG)
        yield listener


@pytest.fixture
def hub() -> Iterator[Hub]:
    with closing(Hub()) as hub:
        yield hub


class Wire:
    """A voice server by hand, one line at a time."""

    def __init__(self, server: socket.socket) -> None:
        self._socket, _ = server.accept()
        self._lines = self._socket.makefile("r")
        self.environment = dict(
            line.rstrip("\n").split(": ", 1) for line in iter(self._lines.readline, "\n")
        )

    def send(self, *lines: str) -> None:
        self._socket.sendall("".join(f"{line}\n" for line in lines).encode())

    def read(self) -> str:
        return self._lines.readline().rstrip("\n")

    def ask(self, line: str) -> str:
        self.send(line)
        return self.read()

    def close(self) -> None:
        self._lines.close()
        self._socket.close()


def test_the_environment(server: socket.socket) -> None:
    with (
        SimulatedCall(server.getsockname(), line="3238", caller="0612345678", caller_name="Zoé"),
        closing(Wire(server)) as wire,
    ):
        assert wire.environment["agi_network"] == "yes"
        assert wire.environment["agi_extension"] == "3238"
        assert wire.environment["agi_dnid"] == "3238"
        assert wire.environment["agi_callerid"] == "0612345678"
        assert wire.environment["agi_calleridname"] == "Zoé"


def test_a_withheld_number(server: socket.socket) -> None:
    with SimulatedCall(server.getsockname(), caller=""), closing(Wire(server)) as wire:
        assert wire.environment["agi_callerid"] == "unknown"
        assert wire.environment["agi_callingpres"] == "67"


def test_nobody_listens(server: socket.socket) -> None:
    server.close()
    with pytest.raises(OSError, match="refused"):
        SimulatedCall(("127.0.0.1", 1))


@pytest.mark.parametrize(
    ("line", "arguments"),
    [
        pytest.param("ANSWER", ["ANSWER"], id="a word"),
        pytest.param(" a \t b ", ["a", "b"], id="blanks"),
        pytest.param('a "b c" d', ["a", "b c", "d"], id="quotes"),
        pytest.param('a "" b', ["a", "", "b"], id="an empty argument"),
        pytest.param('a"b c"d', ["ab cd"], id="quotes within a word"),
        pytest.param(r'"a\"b"', ['a"b'], id="an escaped quote"),
        pytest.param(r'"a\\" b', ["a\\", "b"], id="an escaped backslash"),
        pytest.param(r"a\ b", ["a b"], id="an escaped blank"),
        pytest.param(r"\n", ["n"], id="any other escape"),
        pytest.param('"a b', ["a b"], id="an open quote"),
        pytest.param("", [], id="nothing"),
    ],
)
def test_arguments_are_split_as_parse_args_does(line: str, arguments: list[str]) -> None:
    assert parse_arguments(line) == arguments


@pytest.mark.parametrize(
    ("line", "reply"),
    [
        ("ANSWER", "200 result=0"),
        ("answer", "200 result=0"),
        ('EXEC Background "svi/accueil"', "200 result=0"),
        ('EXEC Playback "svi/accueil"', "200 result=0"),
        ('EXEC Nothing ""', "200 result=-2"),
        ("WAIT FOR DIGIT 100", "200 result=0"),
        ('SET VARIABLE "A" "b c"', "200 result=1"),
        ('GET VARIABLE "A"', "200 result=0"),
        ("NOOP", "200 result=0"),
        ("NOOP whatever", "200 result=0"),
        ("HANGUP", "200 result=1"),
        ("WAIT FOR", "510 Invalid or unknown command"),
        ("STREAM FILE a", "510 Invalid or unknown command"),
        ("", "510 Invalid or unknown command"),
        ("SET VARIABLE A", "520-Invalid command syntax.  Proper usage follows:"),
        ("WAIT FOR DIGIT", "520-Invalid command syntax.  Proper usage follows:"),
        ("EXEC", "520-Invalid command syntax.  Proper usage follows:"),
    ],
)
def test_replies(server: socket.socket, line: str, reply: str) -> None:
    with SimulatedCall(server.getsockname()) as call, closing(Wire(server)) as wire:
        assert wire.ask(line) == reply
        assert call.commands == [line]


def test_variables(server: socket.socket, hub: Hub) -> None:
    with SimulatedCall(server.getsockname()) as call, closing(Agi(server.accept()[0], hub)) as agi:
        agi.set_variable("SVI_NEXT", 'adviser"; ${X}')
        assert agi.get_variable("SVI_NEXT") == 'adviser"; ${X}'
        assert call.variables == {"SVI_NEXT": 'adviser"; ${X}'}


# What the caller types


def test_each_group_answers_a_question(server: socket.socket) -> None:
    with (
        SimulatedCall(server.getsockname(), groups=["1", "", "2"]) as call,
        closing(Wire(server)) as wire,
    ):
        assert wire.ask('EXEC Background "svi/bonjour"') == "200 result=0"  # is no question
        assert wire.ask(PLAY) == "200 result=49"
        assert wire.ask(PLAY) == "200 result=0"
        assert wire.ask(PLAY) == "200 result=50"
        assert wire.ask(PLAY) == "200 result=0"
        assert call.heard == ["bonjour", *["accueil"] * 4]


def test_keys_typed_ahead_go_to_the_next_commands(server: socket.socket) -> None:
    with (
        SimulatedCall(server.getsockname(), groups=["123"]) as call,
        closing(Wire(server)) as wire,
    ):
        assert wire.ask(PLAY) == "200 result=49"
        assert wire.ask(WAIT) == "200 result=50"
        assert wire.ask('EXEC Background "svi/menu&svi/silence-7000"') == "200 result=51"
        assert call.heard == ["accueil"]  # the menu was stopped before it began


def test_keys_are_lost_in_a_playback(server: socket.socket) -> None:
    with SimulatedCall(server.getsockname(), groups=["12"]), closing(Wire(server)) as wire:
        assert wire.ask(PLAY) == "200 result=49"
        assert wire.ask('EXEC Playback "svi/excuse"') == "200 result=0"
        assert wire.ask(PLAY) == "200 result=0"


def test_a_key_pressed_while_no_command_runs_is_lost(server: socket.socket) -> None:
    with SimulatedCall(server.getsockname()) as call, closing(Wire(server)) as wire:
        assert wire.ask("NOOP") == "200 result=0"
        assert not call.press("1")
        assert wire.ask("WAIT FOR DIGIT 100") == "200 result=0"


def test_a_patient_caller_answers_in_time(server: socket.socket) -> None:
    with (
        SimulatedCall(server.getsockname(), patient=True) as call,
        closing(Wire(server)) as wire,
    ):
        wire.send(PLAY)
        call.wait_heard("accueil", LONG)
        call.type("12")
        assert wire.read() == "200 result=49"
        assert wire.ask(WAIT) == "200 result=50"


def test_a_prompt_that_is_never_heard(server: socket.socket) -> None:
    with SimulatedCall(server.getsockname()) as call:
        with pytest.raises(TimeoutError):
            call.wait_heard("accueil", SOON)
        with pytest.raises(TimeoutError):
            call.wait_end(SOON)
        Wire(server).close()
        with pytest.raises(TimeoutError):
            call.wait_heard("accueil", LONG)


# Lines, waits and ends


def test_a_command_ends_a_running_wait(server: socket.socket) -> None:
    read = threading.Event()
    with (
        SimulatedCall(server.getsockname(), faults=Faults(reply=lambda _: read.set())),
        closing(Wire(server)) as wire,
    ):
        wire.send(WAIT)
        assert read.wait(LONG)
        wire.send("NOOP")
        assert [wire.read(), wire.read()] == ["200 result=1", "200 result=0"]


def test_a_command_read_along_with_a_wait_is_not_seen(server: socket.socket) -> None:
    with SimulatedCall(server.getsockname()) as call, closing(Wire(server)) as wire:
        wire.send(WAIT, 'SET VARIABLE "A" "b"')
        call.type("1")
        assert wire.read() == "200 result=49"
        assert call.commands == [WAIT]
        wire.send("NOOP")
        assert [wire.read(), wire.read()] == ["200 result=1", "200 result=0"]


@pytest.mark.parametrize("command", [PLAY, WAIT])
def test_a_hang_up_in_a_command(server: socket.socket, command: str) -> None:
    read = threading.Event()
    with (
        SimulatedCall(
            server.getsockname(), patient=True, faults=Faults(reply=lambda _: read.set())
        ) as call,
        closing(Wire(server)) as wire,
    ):
        wire.send(command)
        assert read.wait(LONG)
        call.hang_up()
        assert [wire.read(), wire.read()] == ["200 result=-1", "HANGUP"]
        assert wire.ask(WAIT).startswith("511 ")
        assert wire.ask(PLAY) == "200 result=-1"
        assert wire.ask('SET VARIABLE "A" "b"') == "200 result=1"
        wire.close()
        assert call.wait_end(LONG) is Ending.CALLER


def test_a_hang_up_while_no_command_runs(server: socket.socket) -> None:
    with SimulatedCall(server.getsockname()) as call, closing(Wire(server)) as wire:
        call.hang_up()
        assert wire.read() == "HANGUP"


def test_a_hang_up_in_place_of_an_answer(server: socket.socket, hub: Hub) -> None:
    with (
        SimulatedCall(server.getsockname(), groups=["1", HANG_UP]) as call,
        closing(Agi(server.accept()[0], hub)) as agi,
    ):
        agi.play(QUESTION)
        agi.typed.clear()
        with pytest.raises(AGIHangup):
            agi.play(QUESTION)
        assert call.wait_end(LONG) is Ending.CALLER


def test_the_server_hangs_up(server: socket.socket, hub: Hub) -> None:
    with SimulatedCall(server.getsockname()) as call, closing(Agi(server.accept()[0], hub)) as agi:
        agi.hangup()
        with pytest.raises(AGIHangup):
            agi.wait_key(LONG)
        assert call.wait_end(LONG) is Ending.SERVER


def test_the_dialplan_goes_on(server: socket.socket, hub: Hub) -> None:
    with SimulatedCall(server.getsockname()) as call:
        Agi(server.accept()[0], hub).close()
        assert call.wait_end(LONG) is Ending.DIALPLAN
    assert call.wait_end(LONG) is Ending.DIALPLAN  # hanging up later changes nothing


def test_a_connection_that_is_cut(server: socket.socket) -> None:
    faults = Faults(cut_after_bytes=1_000)
    with SimulatedCall(server.getsockname(), faults=faults) as call, closing(Wire(server)) as wire:
        reply = wire.ask("NOOP")
        while reply == "200 result=0":
            reply = wire.ask("NOOP")
        assert call.wait_end(LONG) is Ending.CUT


def test_a_reply_that_is_none(server: socket.socket) -> None:
    faults = Faults(reply=lambda line: b"200 result=7\n" if line == "NOOP" else None)
    with SimulatedCall(server.getsockname(), faults=faults), closing(Wire(server)) as wire:
        assert wire.ask("NOOP") == "200 result=7"
        assert wire.ask("ANSWER") == "200 result=0"


# Our session against it


class ReadsTwoLinesAtOnce(SimulatedCall):
    """An Asterisk that is too busy to read the first command before the second has come."""

    def _next_line(self) -> str | None:
        while not self.commands and self._socket.recv(4096, socket.MSG_PEEK).count(b"\n") == 1:
            time.sleep(SOON)
        return super()._next_line()


def test_a_session_frees_an_asterisk_that_read_two_lines_at_once(
    server: socket.socket, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ivr.agi, "SETTLE_SECONDS", 0.0)
    with (
        ReadsTwoLinesAtOnce(server.getsockname()) as call,
        closing(Agi(server.accept()[0], hub)) as agi,
    ):
        agi._listen()
        agi.set_variable("SVI_NEXT", "adviser")
        assert agi.get_variable("SVI_NEXT") == "adviser"
        assert "NOOP" in call.commands


def test_ending_a_wait_takes_no_time(
    server: socket.socket, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ivr.agi, "SETTLE_SECONDS", 0.005)
    with SimulatedCall(server.getsockname()), closing(Agi(server.accept()[0], hub)) as agi:
        took: list[float] = []
        for _ in range(50):
            began = time.monotonic()
            assert not agi.wait_key(SOON)
            agi.noop()
            took.append(time.monotonic() - began)
        # TCP could hold back each reply for 40 ms; a busy machine makes but some of them late.
        assert sorted(took)[5] < 0.04


PLAYS, WAITS, WORKS, SETS = range(4)


@settings(max_examples=60, deadline=None)
@given(
    steps=st.lists(
        st.tuples(
            st.sampled_from([PLAYS, WAITS, WORKS, SETS]),
            st.text("0123456789*#", max_size=3),
        ),
        max_size=12,
    ),
    delay=st.sampled_from([0.0, 0.003]),
)
def test_every_key_arrives_once_and_in_order(steps: list[tuple[int, str]], delay: float) -> None:
    """Keys are typed while a command runs, or a wait that the next command is about to end.

    A slow Asterisk reads several lines at once.
    """
    typed = "".join(keys for _, keys in steps)
    taken = ""
    with (
        patch.multiple(ivr.agi, SETTLE_SECONDS=0.001, NUDGE_SECONDS=0.02),
        socket.create_server(("127.0.0.1", 0)) as server,
        SimulatedCall(server.getsockname(), faults=Faults(delay=delay)) as call,
        ThreadPoolExecutor(1) as backend,
        closing(Hub()) as hub,
        closing(Agi(server.accept()[0], hub)) as agi,
    ):
        for action, keys in steps:
            call.type(keys)
            do(agi, action, backend)
            taken += "".join(agi.typed)
            agi.typed.clear()
        while len(taken) < len(typed) and agi.wait_key(LONG):
            taken += agi.typed.popleft()
        assert not agi.wait_key(SOON)
    assert taken == typed


def do(agi: Agi, action: int, backend: ThreadPoolExecutor) -> None:
    if action == PLAYS:
        agi.play(QUESTION)
    elif action == WAITS:
        agi.wait_key(SOON)
    elif action == WORKS:
        agi.wait_key(LONG, until=backend.submit(int))
    else:
        agi.set_variable("SVI_NEXT", "adviser")
