"""The AMI link against a small manager that misbehaves as real ones and networks do."""

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import chain, islice, repeat
from pathlib import Path
from typing import Self

import pytest
from click.testing import CliRunner
from structlog.testing import capture_logs

from ivr import ami
from ivr.ami import AmiLink, AsteriskDownError, CallInProgress, retry_delays
from shared.secret import Secret
from svi.__main__ import cli

SECRET = "open-sesame"
LONG = 60.0  # seconds of a wait that is not meant to pass
IMPATIENT = ami.ANSWER_SECONDS / 10
GREETING = b"Asterisk Call Manager/11.0.0\r\n"

Action = dict[str, str]
Behaviour = Callable[["Peer"], None]


class Peer:
    """One connection, seen by the manager."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.seen: list[Action] = []

    def send(self, data: bytes) -> None:
        self.connection.sendall(data)

    def answer(self, action: Action, *lines: str) -> None:
        head, *rest = lines
        self.send("\r\n".join([head, f"ActionID: {action['ActionID']}", *rest, "", ""]).encode())

    def actions(self) -> Iterator[Action]:
        data = b""
        while received := self.connection.recv(1 << 20):
            data += received
            while b"\r\n\r\n" in data:
                pack, data = data.split(b"\r\n\r\n", 1)
                action = dict(line.split(": ", 1) for line in pack.decode().split("\r\n"))
                self.seen.append(action)
                yield action

    def accept_login(self) -> Iterator[Action]:
        """Greet, accept the login and give the actions that follow."""
        self.send(GREETING)
        actions = self.actions()
        self.answer(next(actions), "Response: Success", "Message: Authentication accepted")
        return actions


class Manager:
    """A manager whose n-th connection has the n-th behaviour; the last one repeats."""

    def __init__(self, *behaviours: Behaviour) -> None:
        self._behaviours = behaviours
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._serve)
        self.port: int = self._listener.getsockname()[1]
        self.peers: list[Peer] = []

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for peer in self.peers:
            with suppress(OSError):
                peer.connection.shutdown(socket.SHUT_RDWR)
        self._thread.join()

    def _serve(self) -> None:
        with suppress(OSError):  # the listener is closed: the test is over
            while True:
                connection, _ = self._listener.accept()
                peer = Peer(connection)
                behaviour = self._behaviours[min(len(self.peers), len(self._behaviours) - 1)]
                self.peers.append(peer)
                with connection, suppress(OSError):  # the link went away first
                    behaviour(peer)

    def link(self, secret: str = SECRET) -> AmiLink:
        return AmiLink("127.0.0.1", self.port, "svi", Secret(secret))


CHANNELS = [
    ("PJSIP/trunk-00000001", "1700000000.1", "1700000000.1", "00:00:07"),
    ("PJSIP/trunk-00000002", "1700000000.2", "1700000000.2", "01:02:03"),
    ("PJSIP/adviser-00000003", "1700000000.3", "1700000000.2", "00:00:01"),
]


def list_channels(peer: Peer, action: Action, caller_name: str = "") -> None:
    peer.answer(action, "Response: Success", "EventList: start", "Message: Channels will follow")
    for channel, uniqueid, linkedid, duration in CHANNELS:
        peer.answer(
            action,
            "Event: CoreShowChannel",
            f"Channel: {channel}",
            f"Uniqueid: {uniqueid}",
            f"Linkedid: {linkedid}",
            f"CallerIDName: {caller_name}",
            "ApplicationData: svi/chiffre-1&svi/chiffre-2",
            f"Duration: {duration}",
        )
    peer.answer(action, "Event: CoreShowChannelsComplete", "EventList: Complete", "ListItems: 3")


def hang_up(peer: Peer, action: Action) -> None:
    if action["Channel"] in {value for channel in CHANNELS for value in channel[:2]}:
        peer.answer(action, "Response: Success", "Message: Channel Hungup")
    else:
        peer.answer(action, "Response: Error", "Message: No such channel")


def redirect(peer: Peer, action: Action) -> None:
    if action["Channel"] in {channel for channel, *_ in CHANNELS}:
        peer.answer(action, "Response: Success", "Message: Redirect successful")
    else:
        peer.answer(
            action, "Response: Error", f"Message: Channel does not exist: {action['Channel']}"
        )


def respond(peer: Peer, action: Action) -> None:
    match action["Action"]:
        case "Ping":
            peer.answer(action, "Response: Success", "Ping: Pong")
        case "CoreShowChannels":
            list_channels(peer, action)
        case "Hangup":
            hang_up(peer, action)
        case "Redirect":
            redirect(peer, action)


def well(peer: Peer) -> None:
    for action in peer.accept_login():
        respond(peer, action)


def refuse_login(peer: Peer) -> None:
    peer.send(GREETING)
    peer.answer(next(peer.actions()), "Response: Error", "Message: Authentication failed")


def close_after_login(peer: Peer) -> None:
    peer.accept_login()


def silent_after_login(peer: Peer) -> None:
    for _ in peer.accept_login():
        pass


def never_greets(peer: Peer) -> None:
    for _ in peer.actions():
        pass


def not_a_manager(peer: Peer) -> None:
    peer.send(b"SSH-2.0-OpenSSH_9.2\r\n")
    never_greets(peer)


def binary_garbage(peer: Peer) -> None:
    peer.send(bytes(range(256)) * 40 + b"\r\n\r\n")
    never_greets(peer)


def refuse_to_hang_up(peer: Peer) -> None:
    for action in peer.accept_login():
        if action["Action"] == "Hangup":
            peer.answer(action, "Response: Error", "Message: Permission denied")
        else:
            respond(peer, action)


def cut_in_the_list(peer: Peer) -> None:
    for action in peer.accept_login():
        if action["Action"] == "CoreShowChannels":
            peer.send(f"Response: Success\r\nActionID: {action['ActionID']}\r\nEv".encode())
            return
        respond(peer, action)


def noisy(peer: Peer) -> None:
    """Garbage, events nobody asked for, answers to nobody and answers given twice."""
    for action in peer.accept_login():
        peer.send(b"\r\n\r\n\xff\xfe: \r\n\r\nEvent: \r\n\r\nEvent: Reload\r\nnonsense\r\n\r\n")
        peer.send(b"Response: Success\r\n\r\nResponse: Error\r\nActionID: 999999\r\n\r\n")
        respond(peer, action)
        respond(peer, action)


def hostile_name(peer: Peer) -> None:
    forged = (
        "\x0bUniqueid: 6\x85Channel: x\u2028Uniqueid: 6\x1eDuration: 6\nUniqueid: 6\rUniqueid: 6"
    )
    for action in peer.accept_login():
        if action["Action"] == "CoreShowChannels":
            list_channels(peer, action, forged)
        else:
            respond(peer, action)


def unreadable_list(peer: Peer) -> None:
    for action in peer.accept_login():
        if action["Action"] == "CoreShowChannels":
            peer.answer(action, "Response: Success", "EventList: start")
            peer.answer(action, "Event: CoreShowChannel", "Channel: x")
            peer.answer(action, "Event: CoreShowChannelsComplete", "EventList: Complete")
        else:
            respond(peer, action)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Ten times quicker than in service, but no answer is late; no thread may be left behind."""
    for name in ("PING", "FIRST_RETRY", "LONGEST_RETRY"):
        seconds = getattr(ami, f"{name}_SECONDS")
        monkeypatch.setattr(ami, f"{name}_SECONDS", seconds / 10)
    monkeypatch.setattr(ami, "ANSWER_SECONDS", LONG)
    yield
    assert [thread.name for thread in threading.enumerate() if "ami" in thread.name] == []


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same proportions as in service: a stall of this machine is a late answer, too."""
    monkeypatch.setattr(ami, "ANSWER_SECONDS", IMPATIENT)


@pytest.fixture
def impatient_at_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer is late on the first connection only."""
    patience = chain([IMPATIENT], repeat(LONG))

    class Client(ami._Client):
        def __init__(self, host: str, port: int) -> None:
            super().__init__(host, port)
            self._timeout = next(patience)

    monkeypatch.setattr(ami, "_Client", Client)


def wait_until(condition: Callable[[], object], seconds: float = LONG) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.005)


def why_down(link: AmiLink) -> str:
    with pytest.raises(AsteriskDownError) as caught:
        link.calls()
    return str(caught.value)


def test_lists_the_calls_but_not_the_legs_to_advisers() -> None:
    with Manager(well) as manager, manager.link() as link:
        wait_until(lambda: link.up)
        assert link.calls() == [
            CallInProgress("PJSIP/trunk-00000001", "1700000000.1", 7),
            CallInProgress("PJSIP/trunk-00000002", "1700000000.2", 3723),
        ]


@pytest.mark.parametrize(
    ("name", "found"),
    [("PJSIP/trunk-00000001", True), ("1700000000.2", True), ("PJSIP/trunk-0000dead", False)],
)
def test_hangs_up_by_name_or_uniqueid(name: str, found: bool) -> None:
    with Manager(well) as manager, manager.link() as link:
        wait_until(lambda: link.up)
        assert link.hang_up(name) is found


@pytest.mark.parametrize(
    ("name", "found"), [("PJSIP/trunk-00000001", True), ("PJSIP/trunk-0000dead", False)]
)
@pytest.mark.parametrize(
    ("move", "context", "extension"),
    [
        (AmiLink.apologise, "apology", "s"),
        (lambda link, name: link.announce_incident(name, "2A"), "incident", "2A"),
    ],
    ids=["to the apology", "to an incident's announcement (D15)"],
)
def test_moves_a_call(
    move: Callable[[AmiLink, str], bool], context: str, extension: str, name: str, *, found: bool
) -> None:
    with Manager(well) as manager, manager.link() as link:
        wait_until(lambda: link.up)
        assert move(link, name) is found
    [asked] = [a for a in manager.peers[0].seen if a["Action"] == "Redirect"]
    assert (asked["Channel"], asked["Context"]) == (name, context)
    assert (asked["Exten"], asked["Priority"]) == (extension, "1")


@pytest.mark.parametrize(
    "name",
    [
        "",
        "x\r\nAction: Command",
        "x\nAction: Command",
        "x\r",
        "x\0",
        "/.*/",
        "/^PJSIP/",
        "é",
        "a b",
    ],
)
def test_sends_nothing_for_what_cannot_be_a_channel(name: str) -> None:
    with Manager(well) as manager, manager.link() as link:
        wait_until(lambda: link.up)
        with pytest.raises(ValueError, match="not the name"):
            link.hang_up(name)
    assert {action["Action"] for action in manager.peers[0].seen} <= {"Login", "Ping"}


COMPLAINTS = {
    "PJSIP/trunk-00000001": "",
    "PJSIP/trunk-0000dead": "Erreur : aucun appel en cours n'a ce canal\n",
    "/.*/": "Erreur : --hang-up : ce n'est pas un nom de canal\n",
}


@pytest.mark.parametrize(("name", "complaint"), COMPLAINTS.items())
def test_the_command_says_what_it_did_not_hang_up(
    tmp_path: Path, name: str, complaint: str
) -> None:
    with Manager(well) as manager:
        reach = {"host": "127.0.0.1", "port": manager.port, "user": "svi", "secret": SECRET}
        (tmp_path / "ami.json").write_text(json.dumps(reach))
        runner = CliRunner(env={"SVI_HOME": str(tmp_path)})
        result = runner.invoke(cli, ["calls", "--hang-up", name])
    assert (result.stderr, result.exit_code) == (complaint, int(bool(complaint)))


@pytest.mark.parametrize("value", ["a\r\nAction: Command", "a\n", "a\r", "a\0"])
def test_a_login_with_a_control_character_is_refused(value: str) -> None:
    with pytest.raises(ValueError, match="control character"):
        AmiLink("127.0.0.1", 5038, value, Secret("s"))
    with pytest.raises(ValueError, match="control character") as caught:
        AmiLink("127.0.0.1", 5038, "svi", Secret(value))
    assert value not in str(caught.value)


def test_raises_at_once_when_not_started() -> None:
    assert "pas démarrée" in why_down(AmiLink("127.0.0.1", 5038, "svi", Secret("s")))


def test_says_where_nobody_listens() -> None:
    with Manager(well) as manager:
        pass
    with manager.link() as link:
        wait_until(lambda: "refused" in why_down(link))
        assert f"127.0.0.1:{manager.port}" in why_down(link)
        assert not link.up


@pytest.mark.parametrize(
    ("first", "reason"),
    [
        (refuse_login, "Authentication failed : vérifiez le secret de svi"),
        (close_after_login, "connexion fermée"),
        (not_a_manager, "pas l'AMI d'un Asterisk"),
        (binary_garbage, "pas l'AMI d'un Asterisk"),
    ],
)
def test_says_why_it_is_down_and_comes_back(first: Behaviour, reason: str) -> None:
    check_comes_back(first, reason)


@pytest.mark.parametrize("first", [silent_after_login, never_greets])
@pytest.mark.usefixtures("impatient_at_first")
def test_comes_back_after_a_silence(first: Behaviour) -> None:
    check_comes_back(first, "pas de réponse")


def check_comes_back(first: Behaviour, reason: str) -> None:
    with capture_logs() as logs, Manager(first, well) as manager, manager.link() as link:
        wait_until(lambda: len(manager.peers) == 2 and link.up)
        assert len(link.calls()) == 2
    assert [reason in log["reason"] for log in logs if log["event"] == "ami.down"] == [True]


def test_a_link_cut_in_the_middle_of_an_answer_fails_the_call_at_once() -> None:
    with Manager(cut_in_the_list, well) as manager, manager.link() as link:
        wait_until(lambda: link.up)
        begin = time.monotonic()
        assert "connexion fermée" in why_down(link)
        assert time.monotonic() - begin < ami.ANSWER_SECONDS
        wait_until(lambda: link.up)
        assert len(link.calls()) == 2


@pytest.mark.usefixtures("impatient")
def test_an_idle_link_stays_up_beyond_the_time_for_an_answer() -> None:
    """One of them does: others may meet a stall."""
    with Manager(well) as manager, manager.link():
        wait_until(lambda: any(len(peer.seen) >= 9 for peer in manager.peers))  # login, 8 pings


@pytest.mark.usefixtures("impatient")
def test_a_slow_login_is_waited_for() -> None:
    def slow_login(peer: Peer) -> None:
        time.sleep(0.6 * ami.ANSWER_SECONDS)
        well(peer)

    with Manager(slow_login) as manager, manager.link() as link:
        wait_until(lambda: link.up)


def test_a_login_beyond_the_time_of_a_ping_is_not_tried_again() -> None:
    def slow_login(peer: Peer) -> None:
        time.sleep(5 * ami.PING_SECONDS)
        well(peer)

    with Manager(slow_login) as manager, manager.link() as link:
        wait_until(lambda: link.up)
        assert len(manager.peers) == 1


def test_a_wrong_secret_is_not_tried_in_a_tight_loop() -> None:
    begin = time.monotonic()
    with Manager(refuse_login) as manager, manager.link("wrong-secret") as link:
        wait_until(lambda: len(manager.peers) == 4)
        assert time.monotonic() - begin > sum(islice(retry_delays(), 3))
        assert "wrong-secret" not in why_down(link)


def test_a_right_that_is_missing_is_an_error_and_not_a_call_that_is_gone() -> None:
    with Manager(refuse_to_hang_up) as manager, manager.link() as link:
        wait_until(lambda: link.up)
        with pytest.raises(AsteriskDownError, match="refuse Hangup : Permission denied"):
            link.hang_up("1700000000.1")


def test_noise_is_ignored() -> None:
    with Manager(noisy) as manager, manager.link() as link:
        wait_until(lambda: link.up)
        for _ in range(20):
            assert len(link.calls()) == 2
        assert len(manager.peers) == 1


def test_a_caller_name_cannot_pose_as_another_field() -> None:
    with Manager(hostile_name) as manager, manager.link() as link:
        wait_until(lambda: link.up)
        assert [call.uniqueid for call in link.calls()] == ["1700000000.1", "1700000000.2"]


def test_a_list_that_cannot_be_read_is_an_error() -> None:
    with Manager(unreadable_list) as manager, manager.link() as link:
        wait_until(lambda: link.up)
        assert "illisible" in why_down(link)


def test_an_action_larger_than_the_socket_buffer_arrives_whole() -> None:
    name = "x" * 8_000_000
    with Manager(well) as manager, manager.link() as link:
        wait_until(lambda: link.up)
        assert link.hang_up(name) is False
        assert name in [action.get("Channel") for action in manager.peers[0].seen]


def test_threads_share_the_link_and_nothing_is_left_behind() -> None:
    results: list[int] = []

    def list_often(link: AmiLink) -> None:
        results.extend(len(link.calls()) for _ in range(25))

    with Manager(well) as manager, manager.link() as link:
        wait_until(lambda: link.up)
        threads = [threading.Thread(target=list_often, args=(link,)) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert results == [2] * 200
        assert link._client is not None
        wait_until(lambda: not (link._client and link._client._exchanges))


def test_closing_frees_a_call_that_waits() -> None:
    reasons: list[str] = []
    with Manager(silent_after_login) as manager, manager.link() as link:
        wait_until(lambda: link.up)
        waiting = threading.Thread(target=lambda: reasons.append(why_down(link)))
        waiting.start()
        seen = manager.peers[0].seen
        wait_until(lambda: "CoreShowChannels" in [action["Action"] for action in seen])
        begin = time.monotonic()
        link.close()
        waiting.join()
        assert time.monotonic() - begin < 0.5 * ami.ANSWER_SECONDS
    assert len(reasons) == 1


def test_delays_double_up_to_half_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    assert list(islice(retry_delays(), 9)) == [0.5, 1, 2, 4, 8, 16, 30, 30, 30]
