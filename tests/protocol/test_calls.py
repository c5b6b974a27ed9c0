"""Calls on the real voice server, from a simulated Asterisk: what is typed, what is heard."""

import errno
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import func, select

from ivr.records import Recorder
from ivr.script import Script
from ivr.server import VoiceServer
from ivr.simulated import HANG_UP, Ending, Faults, SimulatedCall
from shared import credentials
from shared.database import Database
from shared.keyring import KeyRing
from shared.models import LoginSession, Message
from shared.rules import Rules
from shared.secret import Secret
from shared.store import Store
from tests.postgresql import PostgresqlServer
from tests.store import (
    CAISSE,
    NUMBER,
    PASSWORD,
    CountingHasher,
    FakeClock,
    add_account,
    pay,
)
from tests.telephony import (
    ANOTHER_WRONG,
    MENU,
    OTHER_WRONG,
    PAYMENT_HEARD,
    WRONG,
    add_dossier,
    records,
    running,
    script_with_silence,
)

END_SECONDS = 60.0
SILENCE = ""  # a question that the caller leaves without an answer

UNKNOWN = "9999999"
UNKNOWN_READ_BACK = ["vous-avez-tape", *(f"chiffre-{digit}" for digit in UNKNOWN)]
READ_BACK = ["vous-avez-tape", *(f"chiffre-{digit}" for digit in NUMBER)]


@pytest.fixture
def voice(store: Store, script: Script) -> Iterator[VoiceServer]:
    add_dossier(store)
    with running(store, script) as server:
        yield server


def heard(voice: VoiceServer, groups: list[str], line: str = "3230") -> list[str]:
    """Place a call to its end; each group answers one question."""
    with SimulatedCall(voice.address, line=line, groups=[*groups, HANG_UP]) as call:
        call.wait_end(END_SECONDS)
        return call.heard


# What the caller types, group by group, and what is heard after « accueil ».
DIALOGUES = {
    "no key at all": ([], ["departement"]),
    "département and number": (
        [CAISSE, NUMBER],
        ["departement", "numero", *READ_BACK, "mot-de-passe"],
    ),
    "`#` after the département is swallowed": (
        [f"{CAISSE}#{NUMBER}"],
        ["departement", *READ_BACK, "mot-de-passe"],
    ),
    "97 waits for a third digit": (["974"], ["departement", "numero"]),
    "97 alone, then nothing": pytest.param(
        ["97"],
        ["departement", "departement-inconnu", "departement-2"],
        marks=pytest.mark.silences,
    ),
    "Corse asks which": (["20", "2"], ["departement", "departement-corse", "numero"]),
    "Corse in one go": (["202"], ["departement", "numero"]),
    "64 asks which": (["64", "3", "1"], [
        *["departement", "departement-pyrenees"],
        *["choix-inconnu", "departement-pyrenees", "numero"],
    ]),
    "9 has the caisses said again": (
        ["64", "9", "2"],
        ["departement", "departement-pyrenees", "departement-pyrenees", "numero"],
    ),
    "`*` leads back to the département": (
        ["64", "*", "202"],
        ["departement", "departement-pyrenees", "departement", "numero"],
    ),
    "0 leads to an adviser": (
        ["64", "0"],
        ["departement", "departement-pyrenees", "transfert-conseiller"],
    ),
    "a département that does not exist": (
        ["96", "00", "99"],
        [
            *["departement", "departement-inconnu", "departement-2"],
            *["departement-inconnu", "departement-3", "departement-inconnu"],
            "transfert-conseiller",
        ],
    ),
    "three silences lead to an adviser": (
        [SILENCE, SILENCE, SILENCE],
        [
            *["departement", "rien-entendu", "departement-2"],
            *["rien-entendu", "departement-3", "rien-entendu", "transfert-conseiller"],
        ],
    ),
    "a number cut short": pytest.param(
        [CAISSE, "0123"],
        ["departement", "numero", "numero-incomplet", "numero-2"],
        marks=pytest.mark.silences,
    ),
    "`*` erases what was typed": (
        [CAISSE, f"999*{NUMBER}"],
        ["departement", "numero", *READ_BACK, "mot-de-passe"],
    ),
    "`*` on the empty password goes back to the number": (
        [CAISSE, NUMBER, "*"],
        ["departement", "numero", *READ_BACK, "mot-de-passe", "numero"],
    ),
    "a telephone with letters": (
        [f"A{CAISSE}", f"B{NUMBER}"],
        ["departement", "numero", *READ_BACK, "mot-de-passe"],
    ),
    "`*` in the password erases it": (
        [CAISSE, NUMBER, f"111*{PASSWORD}"],
        ["departement", "numero", *READ_BACK, "mot-de-passe", *MENU],
    ),
    "`#` on the empty password: forgotten, confirmed by 1": (
        [CAISSE, NUMBER, "#", "1"],
        [
            *["departement", "numero", *READ_BACK, "mot-de-passe", "oubli-confirmer"],
            *["oubli-demande", *READ_BACK, "mot-de-passe"],
        ],
    ),
    "forgotten, of a number that does not exist: the same words": (
        [CAISSE, UNKNOWN, "#", "1"],
        [
            *["departement", "numero", *UNKNOWN_READ_BACK, "mot-de-passe", "oubli-confirmer"],
            *["oubli-demande", *UNKNOWN_READ_BACK, "mot-de-passe"],
        ],
    ),
    "forgotten twice: the same words": (
        [CAISSE, NUMBER, "#", "1", "#", "1"],
        [
            *["departement", "numero", *READ_BACK, "mot-de-passe", "oubli-confirmer"],
            *["oubli-demande", *READ_BACK, "mot-de-passe", "oubli-confirmer"],
            *["oubli-demande", *READ_BACK, "mot-de-passe"],
        ],
    ),
    "forgotten, then remembered: the password in force is valid": (
        [CAISSE, NUMBER, "#", "1", PASSWORD],
        [
            *["departement", "numero", *READ_BACK, "mot-de-passe", "oubli-confirmer"],
            *["oubli-demande", *READ_BACK, "mot-de-passe", *MENU],
        ],
    ),
    "`#` typed by habit, then the password": (
        [CAISSE, NUMBER, "#", PASSWORD],
        [
            *["departement", "numero", *READ_BACK, "mot-de-passe", "oubli-confirmer"],
            *MENU,
        ],
    ),
    "a number ended with `#`, the password at once": (
        [CAISSE, f"{NUMBER}#{PASSWORD}"],
        ["departement", "numero", *MENU],
    ),
    "4 digits and a time-out are asked again and count as nothing": pytest.param(
        [CAISSE, NUMBER, "1234", PASSWORD],
        [
            *["departement", "numero", *READ_BACK, "mot-de-passe", "mot-de-passe-incomplet"],
            *[*READ_BACK, "mot-de-passe-2", *MENU],
        ],
        marks=pytest.mark.silences,
    ),
    "the old code, which nothing opens yet": (
        [CAISSE, NUMBER, "1234#", PASSWORD],
        [
            *["departement", "numero", *READ_BACK, "mot-de-passe"],
            *["identification-refusee", *READ_BACK, "mot-de-passe", *MENU],
        ],
    ),
    "everything in one go": (
        [f"{CAISSE}{NUMBER}{PASSWORD}1"],
        ["departement", *PAYMENT_HEARD, *MENU],
    ),
    "9 repeats the menu, 0 leads to an adviser": (
        [CAISSE, NUMBER, PASSWORD, "9", "0"],
        [
            *["departement", "numero", *READ_BACK, "mot-de-passe"],
            *[*MENU, *MENU, "transfert-conseiller"],
        ],
    ),
    "an unknown choice, then goodbye": (
        [CAISSE, NUMBER, PASSWORD, "7", "*"],
        [
            *["departement", "numero", *READ_BACK, "mot-de-passe"],
            *[*MENU, "choix-inconnu", *MENU, "au-revoir"],
        ],
    ),
    "keys typed after a wrong password are dropped": (
        [CAISSE, NUMBER, f"{WRONG}1", PASSWORD],
        [
            *["departement", "numero", *READ_BACK, "mot-de-passe"],
            *["identification-refusee", *READ_BACK, "mot-de-passe", *MENU],
        ],
    ),
}  # fmt: skip


@pytest.mark.parametrize(("groups", "prompts"), DIALOGUES.values(), ids=DIALOGUES.keys())
@pytest.mark.usefixtures("unhurried")
def test_what_is_heard(voice: VoiceServer, groups: list[str], prompts: list[str]) -> None:
    """D01, D04, D09, D18."""
    assert heard(voice, groups) == ["accueil", *prompts]


OUTCOMES = {
    "hung up at once": ([], "abandoned"),
    "got in": ([CAISSE, NUMBER, PASSWORD], "authenticated"),
    "got in, then an adviser": ([CAISSE, NUMBER, PASSWORD, "0"], "transferred"),
    "no keys at all": ([SILENCE] * 3, "transferred"),
    "three wrong passwords": ([CAISSE, NUMBER, WRONG, OTHER_WRONG, ANOTHER_WRONG], "refused"),
    "a third number": (
        [CAISSE, NUMBER, WRONG, "*", "0000001", WRONG, "*", "0000002"],
        "refused",
    ),
    "forgotten": ([CAISSE, NUMBER, "#", "1"], "reset_requested"),
    "forgotten, not confirmed": pytest.param(
        [CAISSE, NUMBER, "#", "2"], "abandoned", marks=pytest.mark.silences
    ),
    "forgotten, then remembered": ([CAISSE, NUMBER, "#", "1", PASSWORD], "reset_requested"),
    "forgotten for a third number": (
        [CAISSE, NUMBER, "#", "1", "*", "0000001", "#", "1", "*", "0000002"],
        "reset_requested",
    ),
    "a number corrected twice before any password": (
        [CAISSE, "0000001", "*", "0000002", "*", NUMBER, PASSWORD],
        "authenticated",
    ),
}


@pytest.mark.parametrize(("groups", "outcome"), OUTCOMES.values(), ids=OUTCOMES.keys())
def test_what_the_record_says(
    voice: VoiceServer, store: Store, groups: list[str], outcome: str
) -> None:
    """D05: 3 passwords and 2 numbers in a call, never one more."""
    heard(voice, groups)
    voice.stop(END_SECONDS)
    [record] = records(store)
    assert record.outcome == outcome


def test_never_a_fourth_try(voice: VoiceServer, hasher: CountingHasher) -> None:
    """D05: the right password after three wrong ones is not even compared."""
    prompts = heard(voice, [CAISSE, NUMBER, WRONG, OTHER_WRONG, ANOTHER_WRONG + PASSWORD, PASSWORD])
    assert prompts[-3:] == [
        "identification-refusee",
        "identification-impossible",
        "transfert-conseiller",
    ]
    assert hasher.compared + hasher.pretended == 3


def test_a_line_with_a_caisse_asks_no_departement(voice: VoiceServer, store: Store) -> None:
    """D01: the caisse comes from the line called."""
    assert heard(voice, [], line="0146300092") == ["accueil-hauts-de-seine", "numero"]
    voice.stop(END_SECONDS)
    assert records(store)[0].caisse == "92"


@pytest.mark.silences
@pytest.mark.parametrize(
    ("confirmation", "messages"), [("1", 1), ("2", 0), (SILENCE, 0)], ids=["1", "2", "no key"]
)
def test_a_password_is_sent_to_who_confirms(
    voice: VoiceServer, store: Store, confirmation: str, messages: int
) -> None:
    """D04, R11: many end a number with `#`."""
    heard(voice, [CAISSE, NUMBER, "#", confirmation])
    with store.database.read() as transaction:
        assert transaction.scalar(select(func.count()).select_from(Message)) == messages


def test_at_most_two_numbers_in_a_call_have_a_password_sent(
    voice: VoiceServer, store: Store
) -> None:
    """D05: a number asked for counts as one tried."""
    for number in ("0000001", "0000002"):
        add_dossier(store, number)
    groups = [CAISSE, NUMBER, "#", "1", "*", "0000001", "#", "1", "*", "0000002", "#", "1"]
    prompts = heard(voice, groups)
    assert prompts.count("oubli-demande") == 2
    assert prompts[-2:] == ["identification-impossible", "transfert-conseiller"]


def test_an_unknown_line_is_given_back_to_the_dialplan(voice: VoiceServer) -> None:
    """The dialplan apologises to a caller who comes back without SVI_NEXT."""
    with SimulatedCall(voice.address, line="3999") as call:
        assert call.wait_end(END_SECONDS) is Ending.DIALPLAN
        assert call.variables == {}


def test_the_dialplan_is_told_where_to_go(voice: VoiceServer) -> None:
    """R34: the adviser of the caisse keyed."""
    with SimulatedCall(voice.address, groups=[CAISSE, NUMBER, PASSWORD, "0"]) as call:
        call.wait_end(END_SECONDS)
        assert call.variables == {"SVI_NEXT": "adviser", "SVI_PLATFORM": f"caisse-{CAISSE}"}


def test_an_expired_password_is_told_so(voice: VoiceServer, store: Store, clock: FakeClock) -> None:
    """R07, D07: a right but expired password may be told so, and opens nothing."""
    credentials.set_secret(store, CAISSE, NUMBER, Secret(PASSWORD), expires_at=clock.now)
    prompts = heard(voice, [CAISSE, NUMBER, PASSWORD])
    assert "mot-de-passe-expire" in prompts
    assert "choix-dernier-paiement" not in prompts


def test_a_dossier_without_payments_says_so(store: Store, script: Script) -> None:
    """R32: payments show nothing yet."""
    add_account(store)
    with running(store, script) as server:
        assert "aucun-paiement" in heard(server, [f"{CAISSE}{NUMBER}{PASSWORD}1"])


def test_keys_typed_while_the_password_is_compared_are_kept(
    voice: VoiceServer, hasher: CountingHasher
) -> None:
    """D18: the choice typed during the backend's work is taken by the menu."""
    comparing, go_on = threading.Event(), threading.Event()

    def compare_slowly() -> None:
        comparing.set()
        go_on.wait(END_SECONDS)

    hasher.meanwhile = compare_slowly
    with SimulatedCall(voice.address, groups=[CAISSE, NUMBER, PASSWORD]) as call:
        assert comparing.wait(END_SECONDS)
        while not call.press("1"):
            pass
        go_on.set()
        call.wait_heard("dernier-paiement", END_SECONDS)
    assert "choix-dernier-paiement" not in call.heard[: call.heard.index("dernier-paiement")]


@pytest.mark.parametrize("caller", ["", "anonymous", "+33612345678", "0612345678", "x" * 3_000])
@pytest.mark.parametrize(
    "name",
    ['"; rm -rf', "a\r\nagi_extension: 3999", "${SHELL(id)}", "\ufffd\u2028", "é" * 3_000],
    ids=["quotes", "crlf", "shell", "separators", "long"],
)
@pytest.mark.usefixtures("unhurried")
def test_hostile_callers_change_nothing(voice: VoiceServer, name: str, caller: str) -> None:
    """Caller ids and names are written by an attacker."""
    groups = [f"{CAISSE}{NUMBER}{PASSWORD}1", HANG_UP]
    with SimulatedCall(voice.address, caller=caller, caller_name=name, groups=groups) as call:
        call.wait_end(END_SECONDS)
    assert "dernier-paiement" in call.heard


@pytest.mark.parametrize("typed", [[PASSWORD], ["#", "1"]], ids=["login", "forgotten"])
def test_a_database_that_stops_in_mid_call_is_apologised_for(
    postgresql: PostgresqlServer,
    keys: KeyRing,
    rules: Rules,
    clock: FakeClock,
    typed: list[str],
) -> None:
    """Design idea 10: an apology and an adviser, never silence; the next call is as ever."""
    name = postgresql.create()
    store = Store(Database(postgresql.url(name)), keys, rules, CountingHasher(), clock)
    store.database.migrate()
    add_dossier(store)
    with running(store, script_with_silence()) as server:
        try:
            postgresql.stop()
            groups = [CAISSE, NUMBER, *typed]
            with SimulatedCall(server.address, groups=groups) as call:
                call.wait_end(END_SECONDS)
            assert call.heard[-2:] == ["excuse-technique", "transfert-conseiller"]
            assert call.variables["SVI_NEXT"] == "adviser"
        finally:
            postgresql.start()
        assert "menu-touches" in heard(server, [CAISSE, NUMBER, PASSWORD])
    store.close()
    postgresql.drop(name)


def test_an_error_of_ours_is_apologised_for(
    voice: VoiceServer, store: Store, hasher: CountingHasher
) -> None:
    """Never silence, never a stack trace: the record says failed, the log where."""

    def break_down() -> None:
        raise ZeroDivisionError(PASSWORD)

    hasher.meanwhile = break_down
    prompts = heard(voice, [CAISSE, NUMBER, PASSWORD])
    assert prompts[-2:] == ["excuse-technique", "transfert-conseiller"]
    voice.stop(END_SECONDS)
    assert records(store)[0].outcome == "failed"


@pytest.mark.parametrize("sent", range(0, 700, 23))
def test_a_connection_cut_anywhere_leaves_nothing(store: Store, script: Script, sent: int) -> None:
    """EOF at any byte: the thread ends, no session stays open."""
    add_dossier(store)
    groups = [f"{CAISSE}{NUMBER}{PASSWORD}1", "1", "1"]
    with running(store, script) as server:
        with SimulatedCall(
            server.address, groups=groups, faults=Faults(cut_after_bytes=sent + 1)
        ) as call:
            call.wait_end(END_SECONDS)
        server.stop(END_SECONDS)
    with store.database.read() as transaction:
        opened = select(func.count()).where(LoginSession.ended_at.is_(None))
        assert transaction.scalar(opened) == 0


def test_many_calls_at_once_each_read_their_own_dossier(store: Store, script: Script) -> None:
    """R39: fifty callers at once, each hears the payment of the number keyed."""
    numbers = [f"{n:07}" for n in range(50)]
    for number in numbers:
        pay(store, add_account(store, number), ("2021-11-05", 100 * int(number)))

    def place(number: str) -> str:
        groups = [CAISSE, number, PASSWORD, "1", HANG_UP]
        caller = f"01990{number[2:]}"
        with SimulatedCall(server.address, caller=caller, groups=groups) as call:
            call.wait_end(END_SECONDS)
        start = call.heard.index("dernier-paiement") + 1
        return call.heard[start]

    with running(store, script) as server, ThreadPoolExecutor(50) as pool:
        assert list(pool.map(place, numbers)) == [f"nombre-{int(number)}" for number in numbers]


def test_a_server_out_of_files_goes_on(voice: VoiceServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A call that finds none waits; it begins once another has ended."""
    refusals = iter([OSError(errno.EMFILE, "Too many open files")])
    accept = socket.socket.accept

    def accept_with_few_files(listener: socket.socket) -> tuple[socket.socket, object]:
        for refusal in refusals:
            raise refusal
        return accept(listener)

    monkeypatch.setattr(socket.socket, "accept", accept_with_few_files)
    assert heard(voice, []) == ["accueil", "departement"]
    assert list(refusals) == []


def test_a_call_whose_work_takes_long_holds_up_no_other(
    voice: VoiceServer, hasher: CountingHasher
) -> None:
    """Calls share a thread, which only calls that wait can do."""
    comparing, go_on = threading.Event(), threading.Event()

    def compare_slowly() -> None:
        comparing.set()
        go_on.wait(END_SECONDS)

    hasher.meanwhile = compare_slowly
    with SimulatedCall(voice.address, groups=[CAISSE, NUMBER, PASSWORD]) as call:
        assert comparing.wait(END_SECONDS)
        assert heard(voice, [CAISSE, NUMBER])[-1] == "mot-de-passe"
        assert call.heard[-1] == "mot-de-passe"
        go_on.set()
        call.wait_heard("menu-touches", END_SECONDS)


def test_a_record_that_takes_long_to_save_holds_up_no_other(
    voice: VoiceServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor does a call that has ended."""
    saving, go_on = threading.Event(), threading.Event()
    save = Recorder.save

    def save_slowly(record: Recorder, store: Store) -> None:
        saving.set()
        go_on.wait(END_SECONDS)
        save(record, store)

    monkeypatch.setattr(Recorder, "save", save_slowly)
    with SimulatedCall(voice.address) as first:
        first.hang_up()
        assert saving.wait(END_SECONDS)
        with SimulatedCall(voice.address, groups=[CAISSE], patient=True) as second:
            second.wait_heard("numero", END_SECONDS)
    go_on.set()
    voice.stop(END_SECONDS)
    assert voice.calls_in_progress == 0


def test_a_call_in_the_backend_is_cut_off_when_its_work_is_done(
    voice: VoiceServer,
    store: Store,
    hasher: CountingHasher,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A login is never left half-way, nor a record unwritten, by a server that stops."""
    comparing, cut_off = threading.Event(), threading.Event()
    cut = VoiceServer._cut

    def cut_and_tell(server: VoiceServer) -> None:
        cut(server)
        cut_off.set()

    def compare_slowly() -> None:
        comparing.set()
        cut_off.wait(END_SECONDS)

    monkeypatch.setattr(VoiceServer, "_cut", cut_and_tell)
    hasher.meanwhile = compare_slowly
    with SimulatedCall(voice.address, groups=[CAISSE, NUMBER, PASSWORD]):
        assert comparing.wait(END_SECONDS)
        voice.stop(0)
    assert hasher.compared == 1
    assert [record.outcome for record in records(store)] == ["failed"]


def test_a_stopping_server_lets_calls_end(voice: VoiceServer) -> None:
    """Calls in progress may end by themselves; then the dialplan apologises."""
    address = voice.address
    with SimulatedCall(address, patient=True) as call:
        call.wait_heard("departement", END_SECONDS)
        voice.stop(0.2)
        call.type("9")  # Asterisk plays on until a key or the end of the silence
        assert call.wait_end(END_SECONDS) is Ending.DIALPLAN
        assert "SVI_NEXT" not in call.variables
    assert voice.calls_in_progress == 0
    with pytest.raises(ConnectionRefusedError):
        SimulatedCall(address)
