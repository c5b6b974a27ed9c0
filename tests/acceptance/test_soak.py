"""A crowd of real callers of all kinds: nothing grows, nothing is left over, no call is lost."""

import json
import os
import random
import re
import socket
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import astuple, dataclass, field, replace
from pathlib import Path

import pytest

from shared.rules import load_rules
from shared.store import Store
from tests.acceptance.caller import Call, Pause, Step, Type
from tests.acceptance.crowd import Crowd, calling
from tests.acceptance.gauges import Gauges, look_at
from tests.acceptance.machine import free_port, wait_until
from tests.acceptance.up import Up, build_voice_of_tones
from tests.store import CAISSE, PASSWORD
from tests.telephony import ANOTHER_WRONG, OTHER_WRONG, WRONG, add_dossier

NUMBERS = tuple(f"40000{n:02}" for n in range(20))
# Failures pile up on these (D05), so that nobody else may call for them.
NUMBERS_OF_HASTY = tuple(f"41000{n:02}" for n in range(20))
NUMBERS_GUESSED = tuple(f"42000{n:02}" for n in range(10))
NUMBERS_OF_NOBODY = tuple(f"49000{n:02}" for n in range(10))

PAUSE_SECONDS = (2.5, 4.5)  # a login has been judged by then, and no key is late (D18)
LAST_PAUSE_SECONDS = 3.0
SILENCE_SECONDS = 60.0  # longer than the three tries of a question, 7 s each (D18)
USUAL_SECONDS = 25.0  # that the longest calls really take
HASTY = 0.25  # of the callers hang up at any moment
FIRST_SECONDS = 1.0  # after which Asterisk has surely brought the call to the voice server

WARM_UP_CALLS = 60  # at once: more than there are threads for the store's work
SETTLED_SECONDS = 15.0
PROGRESS_SECONDS = 10.0
# Room for what is no leak. Executors start threads as work coincides: the gateway's for the
# database (4) and for files (6). The crowd is never quite complete, and a call has up to 7 files,
# most of them Asterisk's. Allocators keep some freed memory; a leak of 10 kB a call would exceed
# this.
MORE_THREADS_WHEN_IDLE = 10
MORE_WHEN_CALLED = Gauges(threads=3, files=21, megabytes=10)
MORE_AFTER_HASHES = 40.0  # megabytes: 60 logins at once, each of them 20 while it is judged (D13)


@dataclass(frozen=True)
class Habit:
    """What a kind of caller types, a pause before each turn, and the outcome of the call.

    None for an outcome that depends on when a refusal comes: it drops what was typed before (D18).
    """

    turns: Sequence[str]
    outcome: str | None
    numbers: Sequence[str] = NUMBERS
    first_pause: float = 0.0
    last_pause: float = LAST_PAUSE_SECONDS


LOG_IN = (CAISSE, "{number}", PASSWORD)
IN_ONE_GO = CAISSE + "{number}" + PASSWORD
FORGOTTEN_IN_ONE_GO = CAISSE + "{number}#1"
HABITS = {
    "types all in one go": Habit([IN_ONE_GO + "1"], "authenticated"),
    "answers each question": Habit([*LOG_IN, "1", "9", "*"], "authenticated"),
    "asks for an adviser": Habit([*LOG_IN, "1", "0"], "transferred"),
    "erases a number": Habit([CAISSE, "123*{number}", PASSWORD], "authenticated"),
    "goes back to the number": Habit([CAISSE, "0000000", "*", *LOG_IN[1:]], "authenticated"),
    "mistypes the password": Habit([*LOG_IN[:2], WRONG, PASSWORD], None),
    "guesses": Habit([*LOG_IN[:2], WRONG, OTHER_WRONG, ANOTHER_WRONG], None, NUMBERS_GUESSED),
    "has no dossier": Habit([*LOG_IN, *[PASSWORD] * 2], None, NUMBERS_OF_NOBODY),
    "has forgotten it": Habit([CAISSE, "{number}", "#", "1"], "reset_requested"),
    "forgot in one go": Habit([FORGOTTEN_IN_ONE_GO + PASSWORD], "reset_requested"),
    "ends the number with #": Habit([CAISSE, "{number}#", PASSWORD, "1"], "authenticated"),
    "finds the keys late": Habit(LOG_IN, "authenticated", first_pause=9.0),
    "never finds the keys": Habit([], "transferred", last_pause=SILENCE_SECONDS),
    "stops at the number": Habit([CAISSE], "transferred", last_pause=SILENCE_SECONDS),
}


@dataclass(frozen=True)
class Soak:
    """For how long the crowd calls, how many at a time, and how often gauges are read."""

    seconds: float
    at_once: int
    every_seconds: float


@dataclass
class Gauged:
    """The two processes, and what their gauges showed while the crowd called."""

    up: Up
    voice: list[Gauges] = field(default_factory=list)
    asterisk: list[Gauges] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._pids = self.up.process.pid, self.up.asterisk()

    def now(self) -> tuple[Gauges, Gauges]:
        """Read the gauges of `svi up` and of Asterisk."""
        voice, asterisk = map(look_at, self._pids)
        return voice, asterisk

    def keep(self) -> tuple[Gauges, Gauges]:
        """Read the gauges, and keep them."""
        voice, asterisk = self.now()
        self.voice.append(voice)
        self.asterisk.append(asterisk)
        return voice, asterisk


@pytest.fixture
def soak(request: pytest.FixtureRequest) -> Soak:
    return Soak(600, 50, 2.0) if request.config.getoption("--soak") else Soak(30, 15, 0.5)


@pytest.fixture
def chance(tell: Callable[[str], None]) -> random.Random:
    """Chance that can be had again: SOAK_SEED."""
    seed = os.environ.get("SOAK_SEED") or str(random.randrange(1_000_000))  # noqa: S311
    tell(f"\nSOAK_SEED={seed}")
    return random.Random(seed)  # noqa: S311


@pytest.fixture
def tell(capsys: pytest.CaptureFixture[str]) -> Callable[[str], None]:
    """Write a line on the terminal at once."""

    def write(line: str) -> None:
        with capsys.disabled():
            sys.stdout.write(f"{line}\n")
            sys.stdout.flush()

    return write


@pytest.fixture
def up(tmp_path: Path) -> Iterator[Up]:
    """A service with the dossiers of the crowd."""
    home = tmp_path / "home"
    build_voice_of_tones(home)
    with Up(home, free_port(socket.SOCK_DGRAM)) as up:
        up.wait_ready()
        store = Store.open(f"sqlite:///{home / 'svi.db'}", home / "keys.json", load_rules())
        for number in (*NUMBERS, *NUMBERS_OF_HASTY, *NUMBERS_GUESSED):
            add_dossier(store, number)
        store.close()
        yield up


@pytest.mark.timeout(1200)
def test_a_crowd_leaves_nothing_behind(
    up: Up, soak: Soak, chance: random.Random, tell: Callable[[str], None]
) -> None:
    gauged = Gauged(up)
    callers = (f"0199{n:06}" for n in range(1_000_000))
    cold = gauged.now()
    warm_up(up, callers)
    warm = gauged.now()
    tell(f"idle: svi up {warm[0]}; Asterisk {warm[1]}")
    assert warm[0].megabytes <= cold[0].megabytes + MORE_AFTER_HASHES

    calls, outcomes = crowd(soak, chance, callers)
    with calling(calls, sip_port=up.sip_port, at_once=soak.at_once, per_second=10) as calling_now:
        follow(calling_now, gauged, soak, tell)
        calling_now.wait(2 * SILENCE_SECONDS)

    assert_steady(gauged.voice)
    assert_steady(gauged.asterisk)
    assert_idle(gauged, warm)
    assert up.live() == []
    recorded = [record["outcome"] for record in up.records()][WARM_UP_CALLS:]
    tell(f"{len(recorded)} calls: {dict(Counter(recorded))}")
    assert len(recorded) == len(calls)
    assert outcomes <= Counter(recorded)
    assert set(recorded) <= {"abandoned", "refused", *outcomes}
    assert_logs_are_clean(up)
    up.process.terminate()
    code, _ = up.end()
    assert code == 0


def warm_up(up: Up, callers: Iterator[str]) -> None:
    """Have so many log in or forget at once that every pool of threads is full from then on."""
    steps: list[list[Step]] = [
        [Pause(3), Type(turn.format(number=number)), Pause(LAST_PAUSE_SECONDS)]
        for turn in (IN_ONE_GO, FORGOTTEN_IN_ONE_GO)
        for number in NUMBERS_OF_HASTY
    ]
    calls = [Call(steps[n % len(steps)], caller=next(callers)) for n in range(WARM_UP_CALLS)]
    with calling(calls, sip_port=up.sip_port, at_once=len(calls), per_second=200) as crowd:
        crowd.wait(SILENCE_SECONDS)
    wait_until(lambda: len(up.records()) == WARM_UP_CALLS, SETTLED_SECONDS)


def crowd(
    soak: Soak, chance: random.Random, callers: Iterator[str]
) -> tuple[list[Call], Counter[str]]:
    """Give the calls that fill this time, and the outcomes of those who don't hang up early."""
    calls: list[Call] = []
    outcomes: Counter[str] = Counter()
    seconds = 0.0
    while seconds < soak.seconds * soak.at_once:
        habit = chance.choice(list(HABITS.values()))
        if chance.random() < HASTY:
            call = cut(
                whole_call(replace(habit, numbers=NUMBERS_OF_HASTY), chance, callers), chance
            )
        else:
            call = whole_call(habit, chance, callers)
            outcomes.update([habit.outcome] if habit.outcome else [])
        calls.append(call)
        seconds += min(call.seconds, USUAL_SECONDS)
    return calls, outcomes


def whole_call(habit: Habit, chance: random.Random, callers: Iterator[str]) -> Call:
    number = chance.choice(habit.numbers)
    steps: list[Step] = [Pause(habit.first_pause)]
    for turn in habit.turns:
        steps += [Pause(chance.uniform(*PAUSE_SECONDS)), Type(turn.format(number=number))]
    return Call([*steps, Pause(habit.last_pause)], caller=next(callers))


def cut(call: Call, chance: random.Random) -> Call:
    """Hang up at any moment, but not in the middle of a key."""
    left = chance.uniform(FIRST_SECONDS, min(call.seconds, USUAL_SECONDS))
    steps: list[Step] = []
    for step in call.steps:
        if step.seconds > left:
            break
        steps.append(step)
        left -= step.seconds
    return replace(call, steps=[*steps, Pause(left)])


def follow(crowd: Crowd, gauged: Gauged, soak: Soak, tell: Callable[[str], None]) -> None:
    """Keep the gauges, and tell of them now and then, until the last caller has called."""
    told_at = 0.0
    while (progress := crowd.progress()).waiting:
        voice, asterisk = gauged.keep()
        if time.monotonic() - told_at >= PROGRESS_SECONDS:
            told_at = time.monotonic()
            tell(
                f"{progress.done} calls done, {progress.in_progress} in progress, "
                f"{progress.waiting} to come; svi up {voice}; Asterisk {asterisk}"
            )
        time.sleep(soak.every_seconds)


def assert_steady(kept: Sequence[Gauges]) -> None:
    """The last fifth of the time is like the second one: the first is for warming up."""
    fifth = len(kept) // 5
    early, late = median(kept[fifth : 2 * fifth]), median(kept[-fifth:])
    assert late.threads <= early.threads + MORE_WHEN_CALLED.threads
    assert late.files <= early.files + MORE_WHEN_CALLED.files
    assert late.megabytes <= early.megabytes + MORE_WHEN_CALLED.megabytes


def median(kept: Sequence[Gauges]) -> Gauges:
    return Gauges(*map(statistics.median, zip(*map(astuple, kept), strict=True)))


def assert_idle(gauged: Gauged, before: tuple[Gauges, Gauges]) -> None:
    """Both processes come back to what they held before the crowd."""

    def is_idle() -> bool:
        return all(
            now.files <= then.files and now.threads <= then.threads + MORE_THREADS_WHEN_IDLE
            for now, then in zip(gauged.now(), before, strict=True)
        )

    wait_until(is_idle, SETTLED_SECONDS)


def assert_logs_are_clean(up: Up) -> None:
    """Nothing went wrong, and no password stands anywhere (D12)."""
    voice_log, asterisk_log = up.home / "logs/voice.log", up.home / "asterisk/log/messages"
    logged = [json.loads(line) for line in voice_log.read_text().splitlines()]
    assert [line for line in logged if line["level"] == "error" or "exception" in line] == []
    assert "Traceback" not in up.err.read_text()
    assert re.findall(r"^.* ERROR\[.*$", asterisk_log.read_text(), re.MULTILINE) == []
    written = [path for path in up.home.rglob("*") if path.is_file() and path.suffix != ".wav"]
    assert {voice_log, asterisk_log, up.home / "svi.db"} <= set(written)
    for path in (*written, up.out, up.err):
        content = path.read_bytes()
        for secret in (PASSWORD, WRONG, OTHER_WRONG, ANOTHER_WRONG):
            assert secret.encode() not in content, path
