"""The file of rules, and its table of who may log in with what, where and when (D10)."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from shared.errors import SettingsError
from shared.rules import DEFAULT_FILE, Channel, CredentialKind, Passage, Rules, load_rules

SHIPPED = DEFAULT_FILE.read_text(encoding="utf-8")


def test_the_shipped_limits_are_those_of_the_decisions() -> None:
    rules = load_rules()
    argon2, throttle = rules.argon2, rules.throttle
    assert (argon2.memory_kib, argon2.passes, argon2.lanes) == (19 * 1024, 2, 1)  # D13
    assert (throttle.call_passwords, throttle.call_numbers) == (3, 2)  # D05, all that follow
    assert (throttle.account_failures, throttle.account_failures_known) == (5, 5)
    assert throttle.account_failures_in_row == 30
    assert (throttle.caller_failures, throttle.caller_accounts) == (10, 3)
    assert throttle.partner_factor == 10
    assert (throttle.alarm_factor, throttle.breaker_factor) == (3, 10)
    assert throttle.breaker_minimum == 20_000


FAULTS = {  # what is wrong: (text that ships, text in its place, what the message names)
    "a key nobody knows": ("[argon2]", "[argon2]\nmemory = 1", "argon2.memory"),
    "a table nobody knows": ("[argon2]", "[argon]\n[argon2]", "argon"),
    "a missing key": ("passes = 2", "", "argon2.passes"),
    "a cost too high": ("= 19456", "= 65537", "argon2.memory_kib"),
    "a limit of zero": ("failures = 5", "failures = 0", "throttle.account_failures"),
    "a limit that is text": ("_accounts = 3", "_accounts = 'x'", "throttle.caller_accounts"),
    "a share above all": ("share = 0.1", "share = 10", "throttle.withheld_share"),
    "a channel nobody knows": ('"voice"', '"vocal"', "transition.0.channel"),
    "a date that is none": ('"voice"', '"voice"\nuntil = "soon"', "transition.0.until"),
    "not TOML": ("[argon2]", "[argon2", "not TOML"),
}


@pytest.mark.parametrize(("old", "new", "named"), FAULTS.values(), ids=FAULTS)
def test_a_fault_is_told_on_one_line(tmp_path: Path, old: str, new: str, named: str) -> None:
    path = tmp_path / "rules.toml"
    assert old in SHIPPED
    path.write_text(SHIPPED.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(SettingsError) as raised:
        load_rules(path)
    assert str(raised.value).startswith(f"{path}: {named}: ")
    assert "\n" not in str(raised.value)


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"none\.toml: cannot be read: No such file"):
        load_rules(tmp_path / "none.toml")


def test_bytes_that_are_no_text_are_told(tmp_path: Path) -> None:
    path = tmp_path / "rules.toml"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(SettingsError, match="not TOML"):
        load_rules(path)


def _utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


PASSWORD, CODE = CredentialKind.PASSWORD, CredentialKind.CODE
VOICE, WEB = Channel.VOICE, Channel.WEB

CUT_OVER = "until = 2022-04-01T00:00:00"  # Paris: 22:00 UTC the day before, in summer time
OPENING = "from = 2021-10-09T00:00:00"  # 22:00 UTC the day before
# fmt: off
TRANSITION = [
    # the voice password's line   who          where  when (UTC)             may log in
    ("",                          PASSWORD,    VOICE, "2021-11-02T09:30:00", True),
    ("",                          PASSWORD,    VOICE, "2099-01-01T00:00:00", True),
    ("",                          PASSWORD,    WEB,   "2021-11-02T09:30:00", False),
    ("",                          CODE,        VOICE, "2021-11-02T09:30:00", False),
    (CUT_OVER,                    PASSWORD,    VOICE, "2022-03-31T21:59:59", True),
    (CUT_OVER,                    PASSWORD,    VOICE, "2022-03-31T22:00:00", False),
    (CUT_OVER + "+00:00",         PASSWORD,    VOICE, "2022-03-31T23:59:59", True),
    (OPENING,                     PASSWORD,    VOICE, "2021-10-08T21:59:59", False),
    (OPENING,                     PASSWORD,    VOICE, "2021-10-08T22:00:00", True),
    (OPENING + "\n" + CUT_OVER,   PASSWORD,    VOICE, "2022-04-02T00:00:00", False),
]
# fmt: on


@pytest.mark.parametrize(("dates", "kind", "channel", "when", "expected"), TRANSITION)
def test_who_may_log_in(
    tmp_path: Path, *, dates: str, kind: CredentialKind, channel: Channel, when: str, expected: bool
) -> None:
    path = tmp_path / "rules.toml"
    path.write_text(f"{SHIPPED}\n{dates}\n", encoding="utf-8")
    assert load_rules(path).may_log_in(kind, channel, _utc(when)) is expected


def test_what_no_line_allows_is_refused() -> None:
    rules = load_rules().model_copy(update={"transition": ()})
    assert not any(
        rules.may_log_in(kind, channel, _utc("2021-11-02T09:30:00"))
        for kind in CredentialKind
        for channel in Channel
    )


def test_one_open_line_is_enough() -> None:
    lines = (
        Passage.model_validate(
            {"credential": "code", "identifier": "number", "channel": "voice", **dates}
        )
        for dates in ({"until": _utc("2021-01-01T00:00:00")}, {})
    )
    rules: Rules = load_rules().model_copy(update={"transition": tuple(lines)})
    assert rules.may_log_in(CODE, VOICE, _utc("2021-11-02T09:30:00"))
