"""What the logs hold: one JSON object a line, and of an exception only its type and places."""

import json
import logging
import sys
from collections.abc import Callable, Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import structlog

from shared import logs

SECRET = "73920461"
library = logging.getLogger("some.library")
ours = structlog.get_logger("ours")


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> StringIO:
    """What is written to stderr."""
    stderr = StringIO()
    monkeypatch.setattr(sys, "stderr", stderr)
    return stderr


@pytest.fixture
def file(tmp_path: Path, screen: StringIO, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The log file; what was configured before is put back."""
    root = logging.getLogger()
    level = root.level
    monkeypatch.setattr(root, "handlers", [])
    path = tmp_path / "voice.log"
    logs.configure(path)
    yield path
    for handler in root.handlers:
        handler.close()
    root.setLevel(level)
    structlog.reset_defaults()


def entries(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text("utf-8").split("\n")[:-1]]


def fail() -> None:
    password = SECRET
    raise ValueError(f"{password} is wrong")


def fail_with_a_cause() -> None:
    try:
        fail()
    except ValueError as error:
        raise RuntimeError(SECRET) from error


def failure() -> RuntimeError:
    try:
        fail_with_a_cause()
    except RuntimeError as error:
        return error
    raise AssertionError


def log_while_handled(log: Callable[[], None]) -> None:
    try:
        fail_with_a_cause()
    except RuntimeError:
        log()


WAYS: dict[str, Callable[[], None]] = {
    "ours, by `exception`": lambda: log_while_handled(lambda: ours.exception("failed")),
    "ours, later": lambda: ours.error("failed", exc_info=failure()),
    "a library, by `exception`": lambda: log_while_handled(lambda: library.exception("failed")),
    "a library, later": lambda: library.error("failed", exc_info=failure()),
}


@pytest.mark.parametrize("log", WAYS.values(), ids=WAYS)
def test_an_exception_is_its_type_and_places(
    file: Path, screen: StringIO, log: Callable[[], None]
) -> None:
    log()
    (entry,) = entries(file)
    assert (entry["event"], entry["level"]) == ("failed", "error")
    assert entry["exception"] == "RuntimeError"
    assert entry["places"][-1].endswith(" fail_with_a_cause")
    assert all(place.partition(":")[0] == __file__ for place in entry["places"])
    assert json.loads(screen.getvalue())["exception"] == "RuntimeError"
    assert SECRET not in screen.getvalue()


def test_no_exception_says_nothing_of_one(file: Path) -> None:
    ours.error("refused")
    log_while_handled(lambda: ours.info("handled"))
    assert [{"exception", "places"} & entry.keys() for entry in entries(file)] == [set(), set()]


def test_a_line_is_an_object_whatever_it_says(file: Path) -> None:
    ours.info("two\nlines", prompt="« été »", path=Path("a"), undecodable="\udce9")
    library.info("%s\r\n%s", "two", "lines")
    first, second = entries(file)
    assert first["event"] == "two\nlines"
    assert (first["prompt"], first["undecodable"]) == ("« été »", "\udce9")
    assert second["event"] == "two\r\nlines"


def test_what_stands_in_a_line(file: Path) -> None:
    with structlog.contextvars.bound_contextvars(call="c1"):
        ours.info("call_ended", outcome="abandoned")
        library.warning("slow")
    ours_entry, library_entry = entries(file)
    assert (ours_entry["call"], ours_entry["outcome"]) == ("c1", "abandoned")
    assert (ours_entry["logger"], ours_entry["level"]) == ("ours", "info")
    assert (library_entry["logger"], library_entry["level"]) == ("some.library", "warning")
    assert library_entry["call"] == "c1"
    assert ours_entry["timestamp"].endswith("Z")


def test_the_screen_has_warnings_only(file: Path, screen: StringIO) -> None:
    ours.info("call_ended")
    library.debug("chatter")
    ours.warning("tidy_failed")
    first, second = entries(file)
    assert (first["event"], second["event"]) == ("call_ended", "tidy_failed")
    assert json.loads(screen.getvalue()) == second


def test_silence(capsys: pytest.CaptureFixture[str]) -> None:
    logs.silence()
    try:
        ours.error("failed")
    finally:
        structlog.reset_defaults()
    assert capsys.readouterr() == ("", "")
