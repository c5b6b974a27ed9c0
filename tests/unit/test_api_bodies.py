"""Bodies: strict JSON, and nothing of them in what is answered."""

import json

import pytest

from shared.api.bodies import parse
from shared.api.logins import LoginRequest
from shared.api.problems import INVALID, NOT_JSON, Problem, ProblemError, body_of
from tests.api import LOGIN


def body(**changes: object) -> bytes:
    return json.dumps(LOGIN | changes).encode()


def without(name: str) -> bytes:
    return json.dumps({key: value for key, value in LOGIN.items() if key != name}).encode()


def test_a_body_as_described_is_read() -> None:
    login = parse(LoginRequest, body())
    assert (login.caisse, login.number, login.channel) == ("75", "0123456", "web")
    assert login.password.reveal() == LOGIN["password"]
    for personal in (LOGIN["number"], LOGIN["password"], LOGIN["client"]):
        assert personal not in repr(login)


REFUSED = {
    # what is sent: what is wrong with it, where
    "nothing": (b"", NOT_JSON, None),
    "no JSON": (b"caisse=75", NOT_JSON, None),
    "a byte order mark": (b"\xef\xbb\xbf" + body(), NOT_JSON, None),
    "UTF-16": (json.dumps(LOGIN).encode("utf-16"), NOT_JSON, None),
    "Latin-1": (body().replace(b"web", b"\xe9t\xe9"), NOT_JSON, None),
    "a name twice": (body()[:-1] + b', "caisse": "92"}', NOT_JSON, None),
    "NaN": (body().replace(b'"75"', b"NaN"), NOT_JSON, None),
    "two values": (body() + body(), NOT_JSON, None),
    "8 levels": (
        b'{"caisse":' + b"[" * 7 + b"]" * 7 + b"," + body()[1:].replace(b'"caisse": "75", ', b""),
        INVALID,
        ("caisse", "string_type"),
    ),
    "9 levels": (b'{"caisse":' + b"[" * 8 + b"]" * 8 + b"}", NOT_JSON, None),
    "10,000 levels": (b"[" * 10_000, NOT_JSON, None),
    "a number too long to be read": (b'{"caisse":' + b"9" * 5_000 + b"}", NOT_JSON, None),
    "a list": (b"[]", INVALID, (None, "model_type")),
    "null": (b"null", INVALID, (None, "model_type")),
    "a name too many": (body(Password1="x"), INVALID, (None, "extra_forbidden")),
    "a name missing": (without("caisse"), INVALID, ("caisse", "missing")),
    "a number for a text": (body(number=1234567), INVALID, ("number", "string_type")),
    "null for a text": (body(number=None), INVALID, ("number", "string_type")),
    "a list for a text": (body(number=["0123456"]), INVALID, ("number", "string_type")),
    "6 digits": (body(number="123456"), INVALID, ("number", "string_pattern_mismatch")),
    "Arabic digits": (body(number="٠١٢٣٤٥٦"), INVALID, ("number", "string_pattern_mismatch")),
    "a line behind": (body(number="0123456\n"), INVALID, ("number", "string_pattern_mismatch")),
    "NUL": (body(number="012345\0"), INVALID, ("number", "string_pattern_mismatch")),
    "a lone surrogate": (
        body().replace(b"0123456", rb"\ud800"),
        INVALID,
        ("number", "string_unicode"),
    ),
    "no such caisse": (body(caisse="20"), INVALID, ("caisse", "string_pattern_mismatch")),
    "the telephone": (body(channel="voice"), INVALID, ("channel", "literal_error")),
    "an empty password": (body(password=""), INVALID, ("password", "string_pattern_mismatch")),
    "a long password": (body(password="1" * 65), INVALID, ("password", "string_pattern_mismatch")),
    "a password with a space": (
        body(password="8392 415"),
        INVALID,
        ("password", "string_pattern_mismatch"),
    ),
    "a password that is a number": (body(password=83927415), INVALID, ("password", "string_type")),
    "an empty address": (body(client=""), INVALID, ("client", "string_pattern_mismatch")),
}


@pytest.mark.parametrize(("sent", "problem", "fault"), REFUSED.values(), ids=REFUSED)
def test_anything_else_is_refused(
    sent: bytes, problem: Problem, fault: tuple[str | None, str] | None
) -> None:
    with pytest.raises(ProblemError) as raised:
        parse(LoginRequest, sent)
    assert raised.value.problem is problem
    found = [(one.field, one.reason) for one in raised.value.faults]
    assert found == ([fault] if fault else [])
    answer = body_of(problem, raised.value.faults)
    told = [(one.get("field"), one["reason"]) for one in json.loads(answer).get("errors", [])]
    assert told == found
    for personal in (b"Password1", b"83927415", b"0123456", b"203.0.113.7"):
        assert personal not in answer
    assert raised.value.__cause__ is None
