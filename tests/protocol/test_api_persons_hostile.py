"""Bodies of persons that no honest client sends: refused, counted as nothing, and not repeated."""

import json
import logging
from collections.abc import Iterator

import pytest
from sqlalchemy import func, select

from shared.models import IdempotentRequest, LoginSession, Message, ThrottleHit, VerificationCode
from shared.store import Store
from tests.api import Api, running
from tests.store import CAISSE, NUMBER, PASSWORD
from tests.web import NIR, WEB_PASSWORD, add_dossier, last_code, make_web_account

pytestmark = pytest.mark.parametrize("url", ["sqlite"], indirect=True)  # this is about HTTP

FROM: dict[str, object] = {"channel": "web", "client": "203.0.113.7"}
CODE_ID = "0f8fad5b-d9cb-469f-a165-70867728950e"
BODIES: dict[str, dict[str, object]] = {
    "/v1/person-logins": FROM | {"identifier": NIR, "password": WEB_PASSWORD},
    "/v1/bascule": FROM | {"nir": NIR, "password": PASSWORD},
    "/v1/recovery": FROM
    | {"identifier": NIR, "birth_name": "Lefèvre", "route": "sms", "contact": "06 12 34 56 78"},
    "/v1/recovery/verifications": FROM | {"code_id": CODE_ID, "code": "483920"},
    "/v1/identifier-requests": FROM
    | {"surname": "Lefèvre", "given_names": "Claire", "birth_date": "1995-10-07"},
    "/v1/identifiers": FROM
    | {"surname": "Lefèvre", "given_names": "Claire", "birth_date": "1995-10-07"}
    | {"caisse": CAISSE, "number": NUMBER},
}

WRONG: dict[str, tuple[str, str, object]] = {
    "a NIR with its key": ("/v1/person-logins", "identifier", NIR + "45"),
    "a NIR in small letters": ("/v1/person-logins", "identifier", "295102a126111"),
    "a numéro d'allocataire": ("/v1/person-logins", "identifier", "0123456"),
    "a small p": ("/v1/person-logins", "identifier", "p12345678"),
    "nine digits after the P": ("/v1/person-logins", "identifier", "P123456789"),
    "Arabic digits": ("/v1/person-logins", "identifier", "P٢٣٤٦٨٩٢٣"),
    "a line behind": ("/v1/person-logins", "identifier", NIR + "\n"),
    "NUL": ("/v1/person-logins", "identifier", NIR[:-1] + "\0"),
    "a list": ("/v1/person-logins", "identifier", [NIR]),
    "a number for a NIR": ("/v1/bascule", "nir", int(NIR)),
    "a provisional identifier": ("/v1/bascule", "nir", "P12345678"),
    "the telephone": ("/v1/bascule", "channel", "voice"),
    "an agent": ("/v1/bascule", "channel", "agent"),
    "a letter": ("/v1/recovery", "route", "letter"),
    "no name": ("/v1/recovery", "birth_name", ""),
    "a long name": ("/v1/recovery", "birth_name", "n" * 101),
    "a long contact": ("/v1/recovery", "contact", "0" * 255),
    "five digits": ("/v1/recovery/verifications", "code", "48392"),
    "seven digits": ("/v1/recovery/verifications", "code", "4839201"),
    "a number for a code": ("/v1/recovery/verifications", "code", 483920),
    "no UUID": ("/v1/recovery/verifications", "code_id", "1"),
    "a UUID in braces": ("/v1/recovery/verifications", "code_id", f"{{{CODE_ID}}}"),
    "a UUID as one word": ("/v1/recovery/verifications", "code_id", CODE_ID.replace("-", "")),
    "no such day": ("/v1/identifier-requests", "birth_date", "1995-02-30"),
    "a day of a week": ("/v1/identifier-requests", "birth_date", "1995-W40-6"),
    "an instant": ("/v1/identifier-requests", "birth_date", "1995-10-07T00:00:00"),
    "seconds since 1970": ("/v1/identifier-requests", "birth_date", 813024000),
    "no given name": ("/v1/identifiers", "given_names", ""),
    "a number of six digits": ("/v1/identifiers", "number", "012345"),
    "no caisse": ("/v1/identifiers", "caisse", "20"),
    "no channel of persons": ("/v1/identifiers", "channel", "voice"),
}


@pytest.fixture
def api(store: Store) -> Iterator[Api]:
    add_dossier(store)
    with running(store) as api:
        yield api


@pytest.mark.parametrize(("path", "field", "value"), WRONG.values(), ids=WRONG)
def test_what_is_not_as_described_is_refused(
    store: Store, api: Api, path: str, field: str, value: object
) -> None:
    reply = api.ask("POST", path, BODIES[path] | {field: value}, idempotency="f" * 16)
    assert (reply.status, reply.problem) == (422, "invalid")
    assert [fault["field"] for fault in reply.json["errors"]] == [field]
    tables = (ThrottleHit, VerificationCode, Message, IdempotentRequest)
    with store.database.read() as transaction:
        counts = [transaction.scalar(select(func.count()).select_from(table)) for table in tables]
    assert counts == [0, 0, 0, 0]


@pytest.mark.parametrize("path", BODIES)
def test_no_other_field_is_taken(api: Api, path: str) -> None:
    reply = api.ask("POST", path, BODIES[path] | {"person_id": CODE_ID}, idempotency="f" * 16)
    assert (reply.status, reply.problem) == (422, "invalid")


@pytest.mark.parametrize("path", BODIES)
def test_a_lone_surrogate_breaks_nothing(api: Api, path: str) -> None:
    for field, value in BODIES[path].items():
        body = json.dumps(BODIES[path] | {field: f"{value}\ud800"})
        reply = api.ask("POST", path, body, idempotency="f" * 16)
        assert (reply.status, reply.problem) == (422, "invalid"), field


@pytest.mark.parametrize(
    "password", ["\ud800" * 12, "\0" * 12, "é" * 12, "Soleil2021\n", "Éléphant2021"]
)
def test_a_choice_of_any_characters_is_answered(api: Api, password: str) -> None:
    body = BODIES["/v1/bascule"]
    steps = api.ask("POST", "/v1/bascule", body, idempotency="f" * 16).json["session"]
    api.ask("POST", "/v1/bascule/terms", session=steps, idempotency="f" * 17)
    reply = api.ask(
        "POST",
        "/v1/bascule/password",
        {"password": password},
        session=steps,
        idempotency="f" * 18,
    )
    assert (reply.status, reply.problem) == (422, "password-refused")
    assert "forbidden-character" in [fault["reason"] for fault in reply.json["errors"]]


def test_nothing_of_a_person_is_logged(
    store: Store, api: Api, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    make_web_account(store)
    caplog.set_level(logging.DEBUG)
    recovery = {**BODIES["/v1/recovery"]}
    code_id = api.ask("POST", "/v1/recovery", recovery, idempotency="f" * 16).json["code_id"]
    code = last_code(store).reveal()
    entry = BODIES["/v1/recovery/verifications"] | {"code_id": code_id, "code": code}
    opened = [
        api.ask("POST", "/v1/person-logins", BODIES["/v1/person-logins"], idempotency="f" * 17),
        api.ask("POST", "/v1/recovery/verifications", entry, idempotency="f" * 18),
    ]
    tokens = [opened[0].json["sessions"][0]["session"], opened[1].json["session"]]
    api.ask("POST", "/v1/identifier-requests", BODIES["/v1/identifier-requests"])
    captured = capsys.readouterr()
    logged = captured.out + captured.err + caplog.text
    assert "POST /v1/recovery" in logged  # else this would show nothing
    personal = [NIR, WEB_PASSWORD, code, code_id, *tokens, "Lefèvre", "Claire", "1995", "06 12"]
    assert [one for one in personal if one in logged] == []
    with store.database.read() as transaction:
        assert transaction.scalar(select(func.count()).select_from(LoginSession)) == 3
