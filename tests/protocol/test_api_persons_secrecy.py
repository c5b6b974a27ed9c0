"""Nobody learns from the API who has a dossier, an account or a contact on file (D04, D07)."""

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import date, timedelta
from itertools import count

import pytest
from sqlalchemy import update

from shared import bascule, provisional, recovery, web_accounts
from shared.life_cycle import Key
from shared.models import Account, Person, Route
from shared.recovery import Claim
from shared.secret import Secret
from shared.store import Store
from tests.api import Api, Reply, running
from tests.store import CAISSE, PASSWORD, CountingHasher, FakeClock, execute, watch
from tests.web import (
    CLAIRE,
    HOLDER,
    NIR,
    UNKNOWN_NIR,
    WEB_PASSWORD,
    add_dossier,
    last_code,
    make_web_account,
    web,
    web_login,
    wrong_code,
)

Body = dict[str, object]

FROM: Body = {"channel": "web", "client": "203.0.113.7"}
LOGIN = FROM | {"identifier": NIR, "password": WEB_PASSWORD}
BASCULE = FROM | {"nir": NIR, "password": PASSWORD}
RECOVERY = FROM | {"identifier": NIR, "birth_name": "Lefèvre", "route": "sms", "contact": None}
REMINDER = FROM | {"surname": "Nguyen", "given_names": "Linh", "birth_date": "1999-02-28"}
FIRST = REMINDER | {"caisse": CAISSE, "number": "7777777"}
UNKNOWN_P = "P00000000"
WRONG_PASSWORD = "Faux12345abc"
CODE_ID = re.compile(rb'(?<="code_id":")[0-9a-f-]{36}(?=")')

_keys = count()


@pytest.fixture
def api(store: Store) -> Iterator[Api]:
    """The API after the bascule, with Claire's dossier."""
    add_dossier(store)
    with running(store) as api:
        yield api


def ask(api: Api, path: str, body: Body) -> Reply:
    return api.ask("POST", path, body, idempotency=f"{next(_keys):016}")


def as_sent(reply: Reply) -> tuple[int, dict[str, str], bytes]:
    """Give all of a reply but what is drawn for each: the id of a code."""
    headers = {name: value for name, value in reply.headers.items() if name != "Date"}
    return reply.status, headers, CODE_ID.sub(b"drawn", reply.body)


def asked(store: Store, api: Api, path: str, body: Body) -> tuple[object, list[str]]:
    """Ask; give the reply and the statements that it took."""
    seen = watch(store.database)
    reply = as_sent(ask(api, path, body))
    return reply, seen.copy()


def nothing(_: Store) -> None:
    pass


def close_dossier(store: Store) -> None:
    execute(store, lambda t: t.execute(update(Account).values(closed_at=store.clock())))


def has_account(store: Store) -> None:
    make_web_account(store)


def has_account_and_closed_dossier(store: Store) -> None:
    make_web_account(store)
    close_dossier(store)


def locked(store: Store) -> None:
    make_web_account(store)
    for tried in range(5):
        web_accounts.verify(store, web_login(WRONG_PASSWORD), web(f"198.51.100.{tried}"))


LOGINS: dict[str, tuple[Callable[[Store], None], Body]] = {
    "wrong password": (has_account, {"password": WRONG_PASSWORD}),
    "no account yet": (nothing, {}),
    "locked": (locked, {}),
    "dossier closed": (has_account_and_closed_dossier, {}),
    "unknown provisional identifier": (nothing, {"identifier": UNKNOWN_P}),
    "a kiosk, where persons don't log in": (has_account, {"channel": "kiosk"}),
}


def locked_dossier(store: Store) -> None:
    for tried in range(5):
        bascule.begin(store, NIR, Secret("00000000"), web(f"198.51.100.{tried}"))


BEGINNINGS: dict[str, tuple[Callable[[Store], None], Body]] = {
    "wrong password": (nothing, {"password": "00000000"}),
    "done already": (has_account, {}),
    "locked": (locked_dossier, {}),
    "dossier closed": (close_dossier, {}),
    "the web password": (has_account, {"password": WEB_PASSWORD}),
    "a kiosk, where nobody does it": (nothing, {"channel": "kiosk"}),
}


REFUSED = {
    f"{path} {name}": (path, like, before, changes)
    for path, like, cases in (
        ("/v1/person-logins", (LOGIN, "identifier"), LOGINS),
        ("/v1/bascule", (BASCULE, "nir"), BEGINNINGS),
    )
    for name, (before, changes) in cases.items()
}


@pytest.mark.parametrize(("path", "like", "before", "changes"), REFUSED.values(), ids=REFUSED)
def test_refusals_look_like_that_of_an_unknown_person(
    *,
    store: Store,
    api: Api,
    hasher: CountingHasher,
    path: str,
    like: tuple[Body, str],
    before: Callable[[Store], None],
    changes: Body,
) -> None:
    body, name = like
    unknown = asked(store, api, path, body | {name: UNKNOWN_NIR})
    before(store)
    computed = hasher.compared + hasher.pretended
    assert asked(store, api, path, body | changes) == unknown
    assert hasher.compared + hasher.pretended == computed + 1


def asked_often(store: Store) -> None:
    for _ in range(4):
        recovery.request(store, Claim(HOLDER, "Lefèvre", Route.SMS), web())


def without_contacts(store: Store) -> None:
    execute(store, lambda t: t.execute(update(Person).values(mobile_sealed=None)))


REQUESTS: dict[str, tuple[Callable[[Store], None], Body]] = {
    "everything right": (nothing, {}),
    "the contact too": (nothing, {"contact": "06 12 34 56 78"}),
    "another name": (nothing, {"birth_name": "Petit"}),
    "another contact": (nothing, {"contact": "06 98 76 54 32"}),
    "no contact on file": (without_contacts, {}),
    "no account": (nothing, {}),
    "an account": (has_account, {}),
    "dossier closed": (close_dossier, {}),
    "asked for too often": (asked_often, {}),
    "unknown provisional identifier": (nothing, {"identifier": UNKNOWN_P}),
    "a kiosk, where persons don't log in": (nothing, {"channel": "kiosk"}),
}


@pytest.mark.parametrize(("before", "changes"), REQUESTS.values(), ids=REQUESTS)
def test_requests_for_a_code_look_alike(
    store: Store, api: Api, before: Callable[[Store], None], changes: Body
) -> None:
    unknown = asked(store, api, "/v1/recovery", RECOVERY | {"identifier": UNKNOWN_NIR})
    before(store)
    assert asked(store, api, "/v1/recovery", RECOVERY | changes) == unknown


def of_nobody(_store: Store, api: Api) -> Body:
    unknown = ask(api, "/v1/recovery", RECOVERY | {"identifier": UNKNOWN_NIR})
    return {"code_id": unknown.json["code_id"], "code": "000000"}


def wrong(store: Store, api: Api) -> Body:
    asked_for = ask(api, "/v1/recovery", RECOVERY)
    return {"code_id": asked_for.json["code_id"], "code": wrong_code(store).reveal()}


def too_late(store: Store, api: Api) -> Body:
    asked_for = ask(api, "/v1/recovery", RECOVERY)
    assert isinstance(store.clock, FakeClock)
    store.clock.advance(timedelta(minutes=10))
    return {"code_id": asked_for.json["code_id"], "code": last_code(store).reveal()}


def used(store: Store, api: Api) -> Body:
    body: Body = {
        "code_id": ask(api, "/v1/recovery", RECOVERY).json["code_id"],
        "code": last_code(store).reveal(),
    }
    assert ask(api, "/v1/recovery/verifications", FROM | body).status == 201
    return body


@pytest.mark.parametrize("enter", [of_nobody, wrong, too_late, used])
def test_refused_codes_look_alike(
    store: Store, api: Api, enter: Callable[[Store, Api], Body]
) -> None:
    never_given: Body = {"code_id": "00000000-0000-0000-0000-000000000000", "code": "000000"}
    path = "/v1/recovery/verifications"
    unknown = asked(store, api, path, FROM | never_given)
    body = enter(store, api)
    assert asked(store, api, path, FROM | body) == unknown


LINH = replace(
    CLAIRE,
    nir=None,
    surname="Nguyen",
    given_names="Linh",
    birth_date=date(1999, 2, 28),
    mobile="+33611223344",
)


def has_no_nir(store: Store) -> None:
    add_dossier(store, "7777777", LINH)


def has_a_nir(store: Store) -> None:
    add_dossier(store, "7777777", replace(LINH, nir=NIR))


def has_identifier(store: Store) -> None:
    """Linh has one, and nobody asked for it lately."""
    has_no_nir(store)
    provisional.request(store, Key(CAISSE, "7777777"), LINH, web())
    assert isinstance(store.clock, FakeClock)
    store.clock.advance(timedelta(hours=1))


def has_identifier_sent_just_now(store: Store) -> None:
    has_identifier(store)
    assert isinstance(store.clock, FakeClock)
    store.clock.advance(timedelta(minutes=-55))


@pytest.mark.parametrize("before", [has_identifier, has_identifier_sent_just_now])
def test_requests_for_an_identifier_look_alike(
    store: Store, api: Api, before: Callable[[Store], None]
) -> None:
    unknown = asked(store, api, "/v1/identifier-requests", REMINDER)
    before(store)
    assert asked(store, api, "/v1/identifier-requests", REMINDER) == unknown


@pytest.mark.parametrize(
    "before",
    [has_no_nir, has_a_nir, has_identifier, has_identifier_sent_just_now, close_dossier],
)
def test_requests_for_a_first_identifier_look_alike(
    store: Store, api: Api, before: Callable[[Store], None]
) -> None:
    unknown = asked(store, api, "/v1/identifiers", FIRST)
    before(store)
    assert asked(store, api, "/v1/identifiers", FIRST) == unknown
