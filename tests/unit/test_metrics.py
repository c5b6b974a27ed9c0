"""Which codes become a label: those that our own code writes are all known."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import sms
from sms.metrics import CODES
from sms.providers import smpp, smtp, twilio
from sms.smpp import Answer

FILES = sorted(Path(sms.__file__).parent.rglob("*.py"))
MOST = 120  # each is a series for each provider and result that it comes with


def written() -> Iterator[tuple[str, str]]:
    """Give every code that stands in the code as such: in a report, or in what becomes one."""
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            match node:
                case ast.Call(
                    func=ast.Name(id="Report"), args=[_, ast.Constant(value=str(code)), *_]
                ):
                    yield path.name, code


def test_what_our_code_writes_is_known() -> None:
    found = set(written())
    assert {("lane.py", "no-answer"), ("smpp.py", "unreachable")} <= found
    assert [(name, code) for name, code in found if code not in CODES] == []


@pytest.mark.parametrize("code", [*twilio.BY_CODE, *twilio.BY_STATUS, 500, 503])
def test_what_twilio_answers_is_known(code: int) -> None:
    assert str(code) in CODES


@pytest.mark.parametrize("status", smpp.BY_STATUS)
def test_what_an_smsc_answers_is_known(status: int) -> None:
    assert Answer(status, "").code in CODES


MAIL_REPLIES = ["421", "450", "451", "452", "454", "501", "550", "552", "553", "554"]


@pytest.mark.parametrize("code", [*MAIL_REPLIES, *smtp.WITHOUT_REPLY])
def test_what_comes_of_a_mail_is_known(code: str) -> None:
    assert code in CODES


def test_they_are_few() -> None:
    assert len(CODES) <= MOST
