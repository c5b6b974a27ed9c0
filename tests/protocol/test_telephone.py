"""The telephone's HTTP server: what pages are told, and what others' pages are refused."""

import json
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import aiohttp
import click
import pytest
from yarl import URL

from ivr.dialogue import Trace
from ivr.script_files import load_script
from svi.demo import DOSSIERS
from svi.telephone.server import FILES, Telephone
from tests.telephony import an_sms

SIP_PORT = 4599
PAGE, OTHER_PAGE = "0123456789abcdef" * 2, "fedcba9876543210" * 2
HOSTILE = '<img src=x onerror="alert(1)">\n\nevent: run\r\ndata: \x00 é « » \u2028'

Served = tuple[Telephone, str]


@pytest.fixture
def served() -> Iterator[Served]:
    telephone = Telephone(0, SIP_PORT, load_script().lines)
    with telephone.served() as address:
        yield telephone, address


def call_of(telephone: Telephone, name: str) -> Trace | None:
    """Begin a call whose caller gives this name."""
    return telephone.trace({"agi_calleridname": name, "agi_callerid": "0612345678"})


@asynccontextmanager
async def listening(
    address: str, page: str, last_seen: str = ""
) -> AsyncIterator[AsyncIterator[tuple[str, str]]]:
    """Give the events that a page is told, as (kind, data); the first says which run it is."""
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"{address}/events/{page}", headers={"Last-Event-ID": last_seen}) as answer,
    ):
        assert answer.status == 200
        assert answer.content_type == "text/event-stream"
        yield events(answer.content)


async def events(stream: aiohttp.StreamReader) -> AsyncIterator[tuple[str, str]]:
    fields: dict[str, str] = {}
    async for line in stream:
        name, _, value = line.decode().rstrip("\n").partition(": ")
        if name:
            fields[name] = value
        elif "data" in fields:
            yield fields.pop("event"), fields.pop("data")


async def next_text(told: AsyncIterator[tuple[str, str]]) -> tuple[str, str]:
    kind, data = await anext(told)
    return kind, json.loads(data)["text"]


async def test_a_page_is_told_its_own_calls_alone(served: Served) -> None:
    telephone, address = served
    async with listening(address, PAGE) as told, listening(address, OTHER_PAGE) as others:
        assert (await anext(told))[0] == (await anext(others))[0] == "run"
        call, another = call_of(telephone, PAGE), call_of(telephone, OTHER_PAGE)
        assert call is not None
        assert another is not None
        another.said("Bonjour.")
        call.said("Tapez votre mot de passe.")
        call.keyed("********")
        call.keyed("*")
        call.keyed("0000354")
        call.ended("authenticated")
        assert [await next_text(told) for _ in range(5)] == [
            ("said", "Tapez votre mot de passe."),
            ("keyed", "••••••••"),
            ("keyed", "*"),
            ("keyed", "0000354"),
            ("ended", "authenticated"),
        ]
        assert await next_text(others) == ("said", "Bonjour.")


@pytest.mark.parametrize(
    "name", ["", "unknown", "Claire", PAGE.upper(), PAGE[1:], f"{PAGE}\n", f"{PAGE}0"]
)
def test_a_call_that_is_no_page_s_is_watched_by_nobody(served: Served, name: str) -> None:
    assert call_of(served[0], name) is None


async def test_a_page_that_left_in_mid_call_does_no_harm(served: Served) -> None:
    telephone, address = served
    call = call_of(telephone, PAGE)
    assert call is not None
    call.said("Personne n'écoute.")
    async with listening(address, PAGE) as told:
        await anext(told)
        call.said("Bonjour.")
        assert await next_text(told) == ("said", "Bonjour.")


async def test_sms_are_shown_to_all_pages_and_to_each_once(served: Served) -> None:
    telephone, address = served
    telephone.show(an_sms("un"))
    async with listening(address, PAGE) as told, listening(address, OTHER_PAGE) as others:
        assert (await anext(told))[0] == (await anext(others))[0] == "run"
        telephone.show(an_sms("deux"))
        for page in (told, others):
            assert [await next_text(page) for _ in range(2)] == [("sms", "un"), ("sms", "deux")]
    async with listening(address, PAGE, last_seen="1") as told:
        await anext(told)
        assert await next_text(told) == ("sms", "deux")


@pytest.mark.parametrize("last_seen", ["x", "-1", "²", "1e9", "9" * 5_000])
async def test_a_strange_last_event_changes_nothing(served: Served, last_seen: str) -> None:
    async with listening(served[1], PAGE, last_seen) as told:
        assert (await anext(told))[0] == "run"


async def test_hostile_text_stays_one_event(served: Served) -> None:
    telephone, address = served
    async with listening(address, PAGE) as told:
        await anext(told)
        call = call_of(telephone, PAGE)
        assert call is not None
        call.said(HOSTILE)
        telephone.show(an_sms(HOSTILE))
        assert await next_text(told) == ("said", HOSTILE)
        assert await next_text(told) == ("sms", HOSTILE)


async def test_another_run_has_another_name_and_another_secret(served: Served) -> None:
    telephone, address = served
    again = Telephone(0, SIP_PORT, load_script().lines)
    assert telephone.asterisk_files.values != again.asterisk_files.values
    with again.served() as other_address:
        async with listening(address, PAGE) as told, listening(other_address, PAGE) as others:
            assert await anext(told) != await anext(others)


async def test_the_page_says_who_may_be_called_and_who_one_may_be(served: Served) -> None:
    telephone, address = served
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"{address}/demonstration.json") as answer,
    ):
        told = await answer.json()
    secret = telephone.asterisk_files.values["TELEPHONE_SECRET"]
    assert told["sip"] == {
        "server": f"ws://127.0.0.1:{SIP_PORT}/{secret}/ws",
        "password": secret,
    }
    assert {"number": "3230", "caisse": ""} in told["lines"]
    assert [dossier["password"] for dossier in told["dossiers"]] == [d.password for d in DOSSIERS]
    assert told["dossiers"][0]["name"] == "Claire Martin"
    assert told["dossiers"][0]["mobile"] == "+33612345678"


@pytest.mark.parametrize("path", [*FILES, "/demonstration.json", f"/events/{PAGE}", "/none"])
@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "rebound.example"}, 421),
        ({"Host": "rebound.example:{port}"}, 421),
        ({"Host": "127.0.0.1"}, 421),
        ({"Host": "127.0.0.1.rebound.example:{port}"}, 421),
        ({"Origin": "http://elsewhere.example"}, 403),
        ({"Origin": "http://127.0.0.1:1"}, 403),
        ({"Origin": "null"}, 403),
        ({"Host": "localhost:{port}", "Origin": "http://127.0.0.1:{port}"}, 403),
    ],
)
async def test_what_another_site_has_a_browser_ask_is_refused(
    served: Served, path: str, headers: dict[str, str], status: int
) -> None:
    _, address = served
    port = str(URL(address).port)
    sent = {name: value.format(port=port) for name, value in headers.items()}
    async with (
        aiohttp.ClientSession() as session,
        session.get(address + path, headers=sent) as answer,
    ):
        assert answer.status == status
        assert "Access-Control-Allow-Origin" not in answer.headers
        assert served[0].asterisk_files.values["TELEPHONE_SECRET"] not in await answer.text()


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_our_own_page_is_served_by_both_names(served: Served, host: str) -> None:
    own = f"http://{host}:{URL(served[1]).port}"
    async with aiohttp.ClientSession() as session:
        headers = {"Host": own.removeprefix("http://"), "Origin": own}
        async with session.get(f"{served[1]}/telephone.js", headers=headers) as answer:
            assert answer.status == 200


@pytest.mark.parametrize(
    "path",
    [
        *("/asterisk/pjsip.conf", "/server.py", "/__pycache__/", "//", "/..%2fserver.py"),
        *("/events/", f"/events/{PAGE}0", "/events/claire"),
    ],
)
async def test_there_is_nothing_else(served: Served, path: str) -> None:
    async with (
        aiohttp.ClientSession() as session,
        session.get(URL(served[1] + path, encoded=True)) as answer,
    ):
        assert answer.status == 404
        assert answer.headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
async def test_nothing_can_be_changed(served: Served, method: str) -> None:
    async with (
        aiohttp.ClientSession() as session,
        session.request(method, f"{served[1]}/demonstration.json") as answer,
    ):
        assert answer.status == 405


async def test_the_policy_allows_our_own_files_and_asterisk_alone(served: Served) -> None:
    async with aiohttp.ClientSession() as session, session.get(served[1]) as answer:
        policy = answer.headers["Content-Security-Policy"]
        page = await answer.text()
    sources = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert sources["default-src"] == "'none'"
    assert sources["script-src"] == sources["style-src"] == "'self'"
    assert sources["connect-src"] == f"'self' ws://127.0.0.1:{SIP_PORT}"
    assert "unsafe" not in policy
    assert "://" not in page  # no address of anybody
    assert "style=" not in page
    assert "onclick" not in page


def test_it_listens_on_this_machine_alone(served: Served) -> None:
    assert URL(served[1]).host == "127.0.0.1"
    port = URL(served[1]).port
    assert port is not None
    with pytest.raises(ConnectionRefusedError):  # 0.0.0.0 would take it
        socket.create_connection(("127.0.0.2", port), timeout=5)


def test_a_port_in_use_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        telephone = Telephone(port, SIP_PORT, load_script().lines)
        with (
            pytest.raises(click.ClickException, match=f"port TCP {port} .* SVI_TELEPHONE_PORT"),
            telephone.served(),
        ):
            pass


async def test_it_ends_while_pages_listen() -> None:
    telephone = Telephone(0, SIP_PORT, load_script().lines)
    async with aiohttp.ClientSession() as session:
        with telephone.served() as address:
            answer = await session.get(f"{address}/events/{PAGE}")
            told = events(answer.content)
            await anext(told)
        assert [event async for event in told] == []  # it ended, in order
