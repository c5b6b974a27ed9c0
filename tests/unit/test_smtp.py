"""What the SMTP provider is told: its account, and settings that would give codes away."""

import json
from pathlib import Path

import pytest

from shared.errors import SettingsError
from sms.providers.smtp import PORTS, Security, SmtpAccount, SmtpSettings

SENDER = "ne-pas-repondre@caf.example"


def account_file(folder: Path, content: object, mode: int = 0o600) -> Path:
    path = folder / "smtp.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content), "utf-8")
    path.chmod(mode)
    return path


def test_an_account_is_read(tmp_path: Path) -> None:
    account = SmtpAccount.load(account_file(tmp_path, {"user": "caf", "password": "à nous seuls"}))
    assert (account.user, account.password.reveal()) == ("caf", "à nous seuls")
    assert "caf" not in repr(account)
    assert "nous" not in repr(account)


WRONG_ACCOUNTS = {
    "no JSON": "{",
    "a list": ["caf", "secret"],
    "no password": {"user": "caf"},
    "an empty password": {"user": "caf", "password": ""},
    "a number": {"user": "caf", "password": 8},
    "a newline": {"user": "caf\r\nRSET", "password": "secret"},
    "a NUL": {"user": "caf", "password": "a\0secret"},
}


@pytest.mark.parametrize("content", WRONG_ACCOUNTS.values(), ids=WRONG_ACCOUNTS)
def test_a_wrong_account_is_refused(tmp_path: Path, content: object) -> None:
    path = account_file(tmp_path, content)
    with pytest.raises(SettingsError) as refused:
        SmtpAccount.load(path)
    assert str(refused.value).startswith(f"{path}: il faut user et password")
    assert "secret" not in str(refused.value)


def test_an_account_that_others_can_read_is_refused(tmp_path: Path) -> None:
    path = account_file(tmp_path, {"user": "caf", "password": "secret"}, mode=0o644)
    with pytest.raises(SettingsError, match=r"smtp\.json"):
        SmtpAccount.load(path)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "localhost"])
def test_without_tls_to_this_machine(host: str) -> None:
    assert SmtpSettings(host, SENDER, security=Security.NONE).host == host


ELSEWHERE = [
    "192.0.2.1",
    "0.0.0.0",  # noqa: S104
    "::",
    "mail.example.org",
    "localhost.example.org",
    "127.0.0.1.nip.io",
]


@pytest.mark.parametrize("host", ELSEWHERE)
def test_never_without_tls_over_a_network(host: str) -> None:
    with pytest.raises(SettingsError, match="SVI_SMTP_TLS"):
        SmtpSettings(host, SENDER, security=Security.NONE)
    assert SmtpSettings(host, SENDER).security is Security.STARTTLS


@pytest.mark.parametrize(
    "sender", ["", "caf", "Caf <a@caf.example>", "a@caf.example\nBcc: b@c.example"]
)
def test_a_sender_that_is_no_address_is_refused(sender: str) -> None:
    with pytest.raises(SettingsError, match="SVI_SMTP_SENDER"):
        SmtpSettings("mail.example.org", sender)


def test_certificates_are_verified_unless_told_otherwise() -> None:
    tls = SmtpSettings("mail.example.org", SENDER).tls
    assert tls.check_hostname
    assert tls.verify_mode.name == "CERT_REQUIRED"


def test_the_usual_ports() -> None:
    """RFC 8314: 587 with STARTTLS, 465 with TLS from the start."""
    assert (PORTS[Security.STARTTLS], PORTS[Security.IMPLICIT]) == (587, 465)
