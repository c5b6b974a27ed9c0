"""The file of rules (D20); its transition table has tests of its own."""

from datetime import datetime
from pathlib import Path

import pytest

from shared.errors import SettingsError
from shared.rules import DEFAULT_FILE, PARIS, load_rules

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
    kept = rules.retention
    days = {kept.audit_days, kept.call_days, kept.message_days, kept.task_days}
    assert (days, kept.pseudonym_key_days) == ({365}, 32)  # D16


FAULTS = {  # what is wrong: (text that ships, text in its place, what the message names)
    "a key nobody knows": ("[argon2]", "[argon2]\nmemory = 1", "argon2.memory"),
    "a table nobody knows": ("[argon2]", "[argon]\n[argon2]", "argon"),
    "a missing key": ("passes = 2", "", "argon2.passes"),
    "a cost too high": ("= 19456", "= 65537", "argon2.memory_kib"),
    "a limit of zero": ("failures = 5", "failures = 0", "throttle.account_failures"),
    "a limit that is text": ("_accounts = 3", "_accounts = 'x'", "throttle.caller_accounts"),
    "a share above all": ("share = 0.1", "share = 10", "throttle.withheld_share"),
    "a shortest above the longest": (
        "shortest = 8, longest = 64",
        "shortest = 65, longest = 64",
        "web_password.accepted",
    ),
    "no lengths at first": ("{ shortest = 8, longest = 24 },", "", "web_password"),
    "no lengths at all": (
        """\
    { shortest = 8, longest = 24 },
    { from = 2024-07-04T00:00:00, shortest = 10, longest = 64 },
""",
        "",
        "web_password",
    ),
    "lengths twice from the start": ("from = 2024-07-04T00:00:00, ", "", "web_password"),
    "not TOML": ("[argon2]", "[argon2", "n'est pas du TOML "),
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
    with pytest.raises(SettingsError, match=r"none\.toml: ne peut pas être lu : No such file"):
        load_rules(tmp_path / "none.toml")


def test_bytes_that_are_no_text_are_told(tmp_path: Path) -> None:
    path = tmp_path / "rules.toml"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(SettingsError, match="n'est pas du TOML"):
        load_rules(path)


# fmt: off
WEB_PASSWORDS = [
    # chosen at (Paris)     characters, may be chosen
    ("2021-10-09T00:00:00", 7,  False),
    ("2021-10-09T00:00:00", 8,  True),
    ("2024-07-03T23:59:59", 8,  True),
    ("2024-07-03T23:59:59", 24, True),
    ("2024-07-03T23:59:59", 25, False),
    ("2024-07-04T00:00:00", 9,  False),
    ("2024-07-04T00:00:00", 10, True),
    ("2024-07-04T00:00:00", 64, True),
    ("2024-07-04T00:00:00", 65, False),
]
# fmt: on


@pytest.mark.parametrize(("when", "length", "expected"), WEB_PASSWORDS)
def test_how_long_a_new_web_password_is(when: str, length: int, expected: bool) -> None:
    """R14."""
    instant = datetime.fromisoformat(when).replace(tzinfo=PARIS)
    assert load_rules().web_password.new_at(instant).allow(length) is expected


@pytest.mark.parametrize(
    ("length", "expected"), [(7, False), (8, True), (24, True), (64, True), (65, False)]
)
def test_an_older_web_password_stays_good_at_login(length: int, expected: bool) -> None:
    """R14."""
    assert load_rules().web_password.accepted.allow(length) is expected
