"""An operator's file: each fault that an admin can make, and what a message fills in."""

import json
import tomllib
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import SettingsError
from shared.outbox import Result
from sms import http_description
from sms.http_description import BY_STATUS, OUR_FAULT, fill
from sms.json_answers import at, parse, text_at
from tests.operators import EXAMPLE, FOLDER

FILES = sorted(FOLDER.glob("*.toml"))
EXAMPLE_TEXT = EXAMPLE.read_text(encoding="utf-8")

SMALL = """\
name = "petit"
secrets = "petit.json"
auth = { bearer = "key" }
send = { url = "https://api.example/sms", body = { to = "{to}", text = "{text}" } }
answer = { id = "/id" }
"""


@pytest.mark.parametrize("path", [EXAMPLE, *FILES], ids=lambda path: path.stem)
def test_a_description_is_in_order(path: Path) -> None:
    assert http_description.check(path) == []


def test_the_example_shows_every_key() -> None:
    """What it leaves out an admin can't find; the three ways of auth exclude one another."""

    def keys(table: dict[str, Any], schema: dict[str, Any], root: dict[str, Any]) -> set[str]:
        absent = set()
        for name, one in schema["properties"].items():
            if name not in table:
                absent.add(name)
                continue
            for option in one.get("anyOf", [one]):
                if "$ref" in option and isinstance(table[name], dict):
                    inner = root["$defs"][option["$ref"].rsplit("/", 1)[1]]
                    absent |= {f"{name}.{key}" for key in keys(table[name], inner, root)}
        return absent

    schema = http_description.Description.model_json_schema()
    left_out = keys(tomllib.loads(EXAMPLE_TEXT), schema, schema)
    assert left_out == {
        *("auth.bearer", "auth.basic"),
        *("receipts.auth.basic", "receipts.auth.token"),
        *("receipts.auth.hmac.algorithm", "receipts.auth.hmac.encoding"),
    }
    assert all(
        f"{key.rsplit('.', 1)[1]} = " in EXAMPLE_TEXT for key in left_out if "hmac" not in key
    )


MANY = ", ".join(f'c{n} = "refused"' for n in range(51))
FAULTS = [
    # what is written instead of what, the key, the reason
    ('"petit"', '"Petit"', "name", "valeur impossible"),
    ('"petit"', '"twilio"', "name", "ce nom est pris"),
    ('"petit"', '"file-sms"', "name", "ce nom est pris"),
    ('"petit"', f'"p{"e" * 21}"', "name", "valeur impossible"),
    ('secrets = "petit.json"', "", "secrets", "clé manquante"),
    ('secrets = "petit.json"', "key = 'abc'", "key", "clé inconnue"),
    ('{ bearer = "key" }', "{}", "auth", "exactement une de bearer, basic, headers"),
    (
        '{ bearer = "key" }',
        '{ bearer = "key", headers = { X-Key = "key" } }',
        "auth",
        "exactement une de bearer",
    ),
    ('{ bearer = "key" }', '{ bearer = "sk-Live0815" }', "auth.bearer", "valeur impossible"),
    (
        '{ bearer = "key" }',
        '{ headers = { Host = "key" } }',
        "auth.headers.Host.[key]",
        "cet en-tête",
    ),
    ("https:", "http:", "send.url", "il faut https://"),
    ("https:", "ftp:", "send.url", "il faut https://"),
    ("https://api", "//api", "send.url", "il faut https://"),
    ("api.example", "127.0.0.1.example", None, None),
    ("https://api.example", "http://127.0.0.1.example", "send.url", "il faut https://"),
    ("https://api", "https://caf:secret@api", "send.url", "pas d'identifiants"),
    ("https://api.example", "https://{attempt_id}.example", "send.url", "pas une adresse"),
    ("example/sms", "example:port/sms", "send.url", "pas une adresse"),
    ("example/sms", "example/s ms", "send.url", "pas une adresse"),
    ("example/sms", "example/sms#top", "send.url", "pas une adresse"),
    ("example/sms", "example/{text}", "send.url", "{text} n'existe pas ici"),
    ("example/sms", "example/{to}", "send.url", "{to} n'existe pas ici"),
    ("body = {", 'method = "GET", body = {', "send.method", "clé inconnue"),
    ("body = {", 'format = "xml", body = {', "send.format", "il faut json, form"),
    ("body = {", "timeout_seconds = 11, body = {", "send.timeout_seconds", "10 au plus"),
    ("body = {", "timeout_seconds = 0, body = {", "send.timeout_seconds", "plus de 0"),
    (
        "body = {",
        'headers = { Authorization = "Bearer abc" }, body = {',
        "send.headers.Authorization.[key]",
        "un secret n'est pas à mettre ici",
    ),
    (
        "body = {",
        'headers = { X-To = "{to}" }, body = {',
        "send.headers.X-To",
        "{to} n'existe pas ici",
    ),
    (
        "body = {",
        'headers = { X-A = "a\\nX-B: b" }, body = {',
        "send.headers.X-A",
        "valeur impossible",
    ),
    ("{text}", "bonjour", "send", "il faut {text}"),
    ("{to}", "+33600000000", "send", "et {to} ou {to_digits}"),
    ("{text}", "{text} {mot_de_passe}", "send", "{mot_de_passe} n'existe pas ici"),
    ("{text}", "{text", "send", "une accolade est de trop"),
    ("{text}", "{text!r}", "send", "une accolade est de trop"),
    ('to = "{to}"', 'to = "{to}", "{sender}" = 1', "send", "aucun paramètre"),
    ('to = "{to}"', 'to = "{to}", at = 2021-11-02', "send", "il faut des textes"),
    ('to = "{to}"', 'to = "{to}", at = nan', "send", "il faut des textes"),
    ('to = "{to}"', 'to = "{to}", callback = "{receipt_url}"', "", "{receipt_url}"),
    ("body = {", 'format = "form", body = { all = [1],', "send", "ni tables ni listes"),
    ('"/id"', '"id"', "answer.id", "valeur impossible"),
    ('"/id"', '"/a~b"', "answer.id", "valeur impossible"),
    ('id = "/id"', 'id = "/id", success = []', "answer.success", "1 au moins"),
    ('id = "/id"', 'id = "/id", success = [500]', "answer.success.0", "299 au plus"),
    ('id = "/id"', 'code = "/code"', "answer", "code et codes vont ensemble"),
    ('id = "/id"', 'codes = { a = "refused" }', "answer", "code et codes vont ensemble"),
    (
        'id = "/id"',
        'code = "/code", codes = { a = "ok" }',
        "answer.codes.a",
        "il faut accepted, refused, retry, our-fault, uncertain",
    ),
    ('id = "/id"', 'statuses = { x = "retry" }', "answer.statuses.x.[key]", "nombre entier"),
    ('id = "/id"', 'statuses = { 200 = "retry" }', "answer.statuses.200.[key]", "300 au moins"),
    ('id = "/id"', 'statuses = { 409 = "accepted" }', "answer", "dans success"),
    (
        'id = "/id"',
        f'code = "/c", codes = {{ {MANY} }}',
        "answer.codes",
        "50 au plus",
    ),
]


@pytest.mark.parametrize(("right", "wrong", "key", "reason"), FAULTS)
def test_a_fault_is_told_in_one_line(
    tmp_path: Path, right: str, wrong: str, key: str | None, reason: str | None
) -> None:
    path = tmp_path / "petit.toml"
    assert right in SMALL
    path.write_text(SMALL.replace(right, wrong, 1), encoding="utf-8")
    findings = http_description.check(path)
    if key is None or reason is None:
        assert findings == []
        return
    [line] = [one for one in findings if one.startswith(f"{path}: {key}: ")]
    assert reason in line
    assert "\n" not in line
    with pytest.raises(SettingsError):
        http_description.load(path)


RECEIPTS = """
[receipts]
provider_id = "/id"
state = "/status"
states = { SENT = "accepted" }
auth = { token = "word" }
"""
RECEIPT_FAULTS = [
    ('auth = { token = "word" }', "", "receipts.auth", "clé manquante"),
    ('{ token = "word" }', "{}", "receipts.auth", "exactement une de hmac, basic, token"),
    (
        'token = "word"',
        'token = "word", basic = { user = "u", password = "p" }',
        "receipts.auth",
        "exactement une",
    ),
    ('{ SENT = "accepted" }', "{}", "receipts.states", "1 au moins"),
    ('"accepted"', '"refused"', "receipts.states.SENT", "il faut accepted, delivered, undelivered"),
    ('provider_id = "/id"', "", "receipts.provider_id", "clé manquante"),
    (
        '{ token = "word" }',
        '{ hmac = { header = "X-S", secret = "k", algorithm = "md5" } }',
        "receipts.auth.hmac.algorithm",
        "il faut sha256, sha512",
    ),
]


@pytest.mark.parametrize(("right", "wrong", "key", "reason"), RECEIPT_FAULTS)
def test_a_fault_in_how_receipts_are_read(
    tmp_path: Path, right: str, wrong: str, key: str, reason: str
) -> None:
    path = tmp_path / "petit.toml"
    path.write_text(SMALL + RECEIPTS, encoding="utf-8")
    assert http_description.check(path) == []
    assert right in RECEIPTS
    path.write_text(SMALL + RECEIPTS.replace(right, wrong), encoding="utf-8")
    assert any(
        line.startswith(f"{path}: {key}: ") and reason in line
        for line in http_description.check(path)
    )


def test_receipts_without_anything_to_match_them_by_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "petit.toml"
    path.write_text(SMALL.replace('id = "/id"', "") + RECEIPTS, encoding="utf-8")
    [line] = http_description.check(path)
    assert "ne retrouve aucun SMS" in line


def test_every_fault_is_told(tmp_path: Path) -> None:
    path = tmp_path / "petit.toml"
    path.write_text(SMALL.replace('"petit"', '"P"').replace('"/id"', '"id"'), encoding="utf-8")
    assert [line.split(": ")[1] for line in http_description.check(path)] == ["name", "answer.id"]


def test_a_file_that_is_none(tmp_path: Path) -> None:
    [absent] = http_description.check(tmp_path / "absent.toml")
    assert "ne peut pas être lu" in absent


OF_EXAMPLE = [
    # status, answer, what becomes of the message, its code
    (200, {"id": "m1"}, Result.ACCEPTED, ""),
    (202, {"id": "m1"}, Result.ACCEPTED, ""),
    (204, {"id": "m1"}, Result.UNCERTAIN, "204"),  # no success of the file's
    (200, None, Result.UNCERTAIN, "unreadable"),
    (200, {"id": "m1", "error": {"code": "strange"}}, Result.UNCERTAIN, "unreadable"),
    (200, {"error": {"code": "quota_exceeded"}}, Result.RETRY, "quota_exceeded"),
    (400, {"error": {"code": "invalid_number"}}, Result.REFUSED, "invalid_number"),
    (400, {"error": {"code": "account_suspended"}}, OUR_FAULT, "account_suspended"),
    (400, {"error": {"code": "strange"}}, Result.REFUSED, "400"),
    (400, {"error": "invalid_number"}, Result.REFUSED, "400"),
    (400, None, Result.REFUSED, "400"),
    (401, None, OUR_FAULT, "401"),
    (402, None, OUR_FAULT, "402"),
    (403, {"error": "forbidden"}, OUR_FAULT, "403"),
    (403, None, Result.UNCERTAIN, "403"),  # a firewall's, perhaps of this text alone
    (404, None, Result.UNCERTAIN, "404"),
    (409, None, Result.UNCERTAIN, "409"),
    (302, {"id": "m1"}, Result.UNCERTAIN, "302"),
    (500, {"error": {"code": "invalid_number"}}, Result.UNCERTAIN, "500"),  # a 5xx says anything
    (503, None, Result.RETRY, "503"),  # the file is sure
    (504, None, Result.UNCERTAIN, "504"),
]


UNSAID = [{"maintenance": True}, [], {"error": {"code": None}}, {"error": {"code": ["OK"]}}]


@pytest.mark.parametrize("answer", UNSAID)
def test_where_a_code_says_that_it_was_taken_nothing_else_does(answer: object) -> None:
    codes = {"OK": Result.ACCEPTED, "KO": Result.REFUSED}
    file = http_description.load(EXAMPLE).answer.model_copy(update={"codes": codes, "id": None})
    assert file.judge(200, {"error": {"code": "OK"}}) == (Result.ACCEPTED, "OK")
    assert file.judge(200, answer) == (Result.UNCERTAIN, "unreadable")


@pytest.mark.parametrize(("status", "answer", "result", "code"), OF_EXAMPLE)
def test_what_an_answer_means(
    status: int, answer: object, result: Result | None, code: str
) -> None:
    description = http_description.load(EXAMPLE)
    assert description.answer.judge(status, answer) == (result, code)
    assert code in description.codes | {"", "unreadable", str(status)}


def test_what_the_file_does_not_name_is_uncertain() -> None:
    """D19: only 4xx that mean the same everywhere are believed by themselves."""
    assert {status for status in BY_STATUS if not 400 <= status < 500} == set()
    assert 409 not in BY_STATUS  # « again »: it may be there


HOSTILE = [
    '","to":"+33699999999',
    '"}]}, {"text": "',
    "{to}{text}{sender}",
    "{receipt_url}",
    "\\u0022\\",
    "&to=%2B33699999999#",
    "a\r\nX-Injected: 1",
    "\x00\x1b",
    "é€😀",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_a_text_stays_in_the_field_that_is_for_it(text: str) -> None:
    _check_that_it_stays(text, "Caf")


@given(st.text(), st.text())
def test_whatever_a_text_or_sender_is_it_stays_where_it_belongs(text: str, sender: str) -> None:
    _check_that_it_stays(text, sender)


def _check_that_it_stays(text: str, sender: str) -> None:
    body = {"to": ["tel:{to}"], "m": {"text": "{text}", "by": "Caf/{sender}"}, "n": "{validity_ms}"}
    values: dict[str, str | int] = {
        "to": "+33612345678",
        "text": text,
        "sender": sender,
        "receipt_url": "https://x",
        "validity_ms": 5,
    }
    assert json.loads(json.dumps(fill(body, values))) == {
        "to": ["tel:+33612345678"],
        "m": {"text": text, "by": f"Caf/{sender}"},
        "n": 5,
    }
    flat = fill({"to": "{to}", "text": "{text}"}, values)
    wired = urlencode({k: v.encode("utf-8", "surrogatepass") for k, v in flat.items()})
    read = parse_qsl(wired, keep_blank_values=True, errors="surrogatepass")
    assert read == [("to", "+33612345678"), ("text", text)]


RFC_6901 = [
    # of its section 5, without the empty pointer and the numbers that no answer has
    ("/foo", ["bar", "baz"]),
    ("/foo/0", "bar"),
    ("/", 0),
    ("/a~1b", 1),
    ("/c%d", 2),
    ("/e^f", 3),
    ("/g|h", 4),
    ("/i\\j", 5),
    ('/k"l', 6),
    ("/ ", 7),
    ("/m~0n", 8),
]
RFC_DOCUMENT = {
    "foo": ["bar", "baz"],
    "": 0,
    "a/b": 1,
    "c%d": 2,
    "e^f": 3,
    "g|h": 4,
    "i\\j": 5,
    'k"l': 6,
    " ": 7,
    "m~n": 8,
}


@pytest.mark.parametrize(("pointer", "value"), RFC_6901)
def test_pointers_are_those_of_the_standard(pointer: str, value: object) -> None:
    assert at(RFC_DOCUMENT, pointer) == value


@pytest.mark.parametrize("pointer", ["/foo/2", "/foo/00", "/foo/-", "/foo/-1", "/foo/bar", "/x/y"])
def test_a_pointer_to_nothing(pointer: str) -> None:
    assert at(RFC_DOCUMENT, pointer) is None


SCALARS = [
    ("a", "a"),
    (1511882900176220, "1511882900176220"),
    (True, "true"),
    (False, "false"),
    (1.5, None),
    (None, None),
    ([], None),
    ({}, None),
]


@pytest.mark.parametrize(("value", "text"), SCALARS)
def test_what_is_a_code_or_an_identifier(value: object, text: str | None) -> None:
    assert text_at({"x": value}, "/x") == text


NO_JSON = [
    b"",
    b"<html>",
    b'{"id": "a"',
    b'{"id": "\xff"}',
    b'{"id": NaN}',
    b'{"id": -Infinity}',
    b"[" * 60_000,
    b'{"a":' * 12_000,
    b'{"id": ' + b"9" * 6_000 + b"}",
    '{"id": "a"}'.encode("utf-16"),
    b"null",
]


@pytest.mark.parametrize("body", NO_JSON, ids=range(len(NO_JSON)))
def test_what_is_no_json_is_nothing(body: bytes) -> None:
    assert parse(body) is None
