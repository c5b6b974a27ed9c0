"""What people write to us as Twilio tells it: honest, forged, repeated, with the store away."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager
from urllib.parse import urlencode

import aiohttp
import pytest
from sqlalchemy import func, select
from structlog.testing import capture_logs

from shared import inbound, opt_outs
from shared.contacts import Contact
from shared.errors import StoreDownError
from shared.inbound import Word
from shared.models import InboundMessage, Message, Route
from shared.store import Store
from sms.callbacks import FORM
from sms.http import LARGEST_BODY, Backend, application, serving
from tests.gateway import LONG, MOBILE, until
from tests.peers.fake_twilio import ACCOUNT_SID
from tests.protocol.test_gateway_http import Form, callbacks, sign
from tests.scraping import grown, scrape

PATH = "/twilio/inbound"
SID, OTHER_SID = "SM" + 32 * "a", "SM" + 32 * "b"
CLAIRE = Contact(Route.SMS, MOBILE)


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is late, unless the test is about that."""
    monkeypatch.setattr("sms.callbacks.BODY_SECONDS", LONG)


def written(text: str = "STOP", **others: str) -> Form:
    """Give what Twilio posts when somebody writes to a number of ours."""
    said = {
        "AccountSid": ACCOUNT_SID,
        "ApiVersion": "2010-04-01",
        "Body": text,
        "From": MOBILE,
        "FromCity": "",
        "FromCountry": "FR",
        "MessageSid": SID,
        "NumMedia": "0",
        "NumSegments": "1",
        "SmsMessageSid": SID,
        "SmsSid": SID,
        "SmsStatus": "received",
        "To": "36180",
    }
    return [*(said | others).items()]


class Twilio:
    """Twilio on the other end of a gateway."""

    def __init__(self, url: str, session: aiohttp.ClientSession) -> None:
        self._url = url
        self._session = session

    async def tell(self, form: Form, signature: str | None = None) -> int:
        """Post what somebody wrote, signed as Twilio signs it unless told otherwise."""
        signed = sign(PATH, form) if signature is None else signature
        return await self.post(urlencode(form), signed)

    async def post(
        self, body: str | bytes | AsyncIterator[bytes], signature: str = "", kind: str = FORM
    ) -> int:
        headers = {"X-Twilio-Signature": signature, "Content-Type": kind}
        async with self._session.post(self._url, data=body, headers=headers) as answer:
            if answer.status < 400:
                assert answer.content_type == "text/xml"
                said = (await answer.text()).removeprefix('<?xml version="1.0" encoding="UTF-8"?>')
                assert said == "<Response/>"
            else:
                assert answer.content_type == "application/problem+json"
            return answer.status


@asynccontextmanager
async def gateway(store: Store) -> AsyncIterator[Twilio]:
    with ThreadPoolExecutor(2) as pool:
        app = application(Backend(store, pool, lambda: True, callbacks(store, pool)))
        async with serving(app, "127.0.0.1", 0) as port, aiohttp.ClientSession() as session:
            yield Twilio(f"http://127.0.0.1:{port}{PATH}", session)


def replies(store: Store) -> Sequence[str]:
    with store.database.read() as transaction:
        ours = select(Message.template).where(Message.template.startswith("inbound."))
        return transaction.scalars(ours.order_by(Message.template)).all()


def wants_none(store: Store) -> bool:
    with store.database.read() as transaction:
        return opt_outs.find(store, transaction, CLAIRE) is not None


def kept(store: Store) -> int:
    with store.database.read() as transaction:
        return transaction.scalars(select(func.count()).select_from(InboundMessage)).one()


@pytest.mark.asyncio
async def test_stop_is_heard_and_answered(store: Store) -> None:
    async with gateway(store) as twilio:
        assert await twilio.tell(written("Stop merci ✋")) == 200
    assert wants_none(store)
    assert replies(store) == ["inbound.36180.stop"]


@pytest.mark.asyncio
async def test_aide_and_contact_are_answered(store: Store) -> None:
    async with gateway(store) as twilio:
        assert await twilio.tell(written("aide ?")) == 200
        assert await twilio.tell(written("CONTACT", MessageSid=OTHER_SID)) == 200
    assert not wants_none(store)
    assert replies(store) == ["inbound.36180.aide", "inbound.36180.contact"]


UNANSWERED: Mapping[str, Form] = {
    "no word of ours": written("Bonjour, qui est-ce ?"),
    "no text": written(""),
    "a number that is not in the file": written(To="+33757590000"),
    "nobody whom we write to": written(From="+447400123456"),
    "a name": written(From="Pizza"),
    "a short code": written(From="38000"),
    "NULs": written(From="+336\x0012345678", To="\x00"),
}


@pytest.mark.asyncio
@pytest.mark.parametrize("form", UNANSWERED.values(), ids=UNANSWERED)
async def test_the_rest_is_taken_and_not_answered(store: Store, form: Form) -> None:
    async with gateway(store) as twilio:
        assert await twilio.tell(form) == 200
    assert (kept(store), replies(store), wants_none(store)) == (0, [], False)


@pytest.mark.asyncio
async def test_told_again_and_to_two_gateways_at_once_it_is_answered_once(store: Store) -> None:
    async with AsyncExitStack() as stack:
        gateways = [await stack.enter_async_context(gateway(store)) for _ in range(2)]
        told = [one.tell(written()) for one in gateways * 10]
        assert set(await asyncio.gather(*told)) == {200}
    assert (kept(store), replies(store)) == (1, ["inbound.36180.stop"])


@pytest.mark.asyncio
async def test_nobody_is_flooded(store: Store) -> None:
    """A sender is easily forged: a number gets each reply once a day."""
    async with gateway(store) as twilio:
        for number in range(20):
            sid = f"SM{number:032x}"
            assert await twilio.tell(written(("STOP", "AIDE")[number % 2], MessageSid=sid)) == 200
    assert replies(store) == ["inbound.36180.aide", "inbound.36180.stop"]


@pytest.mark.asyncio
async def test_what_twilio_did_not_sign_is_refused(store: Store) -> None:
    form = written()
    forged = {
        "none": "",
        "made up": "A" * 28,
        "no ASCII": "é" * 28,
        "of another text": sign(PATH, written("AIDE")),
        "of another sender": sign(PATH, written(From="+33698765432")),
        "of another path": sign("/twilio/status", form),
        "of another address": sign(PATH, form, "https://elsewhere.example.org"),
    }
    async with gateway(store) as twilio:
        for kind, signature in forged.items():
            assert await twilio.tell(form, signature) == 403, kind
        for twice in ([("Body", "AIDE"), *form], [*form, ("From", MOBILE)]):
            assert await twilio.tell(twice, sign(PATH, form)) == 403
            assert await twilio.tell(twice) == 403
        assert await twilio.tell(written(AccountSid="AC" + 32 * "9")) == 403
    assert kept(store) == 0


@pytest.mark.asyncio
async def test_hostile_bodies_change_nothing(store: Store) -> None:
    async def endless() -> AsyncIterator[bytes]:
        for _ in range(10 * 1024):
            yield 1024 * b"a"

    async with gateway(store) as twilio:
        assert await twilio.post(b"a=" + LARGEST_BODY * b"x") == 413
        assert await twilio.post(endless()) == 413  # 10 MB
        assert await twilio.post(b"Body=%ff") == 400
        assert await twilio.post(b"\xff\xfe") == 400
        assert await twilio.post("no form") == 400
        assert await twilio.post("&".join(f"a{n}=1" for n in range(101))) == 400
        assert await twilio.post("{}", kind="application/json") == 415
        assert await twilio.post("--x--", kind='multipart/form-data; boundary="x"') == 415
        for missing in ("Body", "From", "To", "MessageSid"):
            lacking = [field for field in written() if field[0] != missing]
            assert await twilio.tell(lacking) == 400, missing
        for sid in ("SM1", "", SID + "\n", "x" * 5000):
            assert await twilio.tell(written(MessageSid=sid)) == 400
    assert kept(store) == 0


@pytest.mark.asyncio
async def test_a_stop_waits_for_a_database_that_is_away(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twilio does not ask again for long enough: we do. If it does, it is answered once."""
    monkeypatch.setattr("sms.keeper.RETRY_SECONDS", 0.01)
    monkeypatch.setattr("sms.keeper.MOST_HELD", 2)
    away, take = True, inbound.take

    def unless_away(store: Store, word: Word) -> bool:
        if away:
            raise StoreDownError("database: away")
        return take(store, word)

    monkeypatch.setattr(inbound, "take", unless_away)
    with capture_logs() as logs:
        async with gateway(store) as twilio:
            for _ in range(3):
                assert await twilio.tell(written()) == 503
            await asyncio.sleep(0.05)
            assert not wants_none(store)
            away = False
            await until(lambda: len(logs) == 3)
    assert wants_none(store)
    assert replies(store) == ["inbound.36180.stop"]
    assert [log["event"] for log in logs] == ["inbound_lost", "inbound_kept", "inbound_kept"]


@pytest.mark.asyncio
@pytest.mark.parametrize(("back", "event"), [(True, "inbound_kept"), (False, "inbound_lost")])
async def test_a_gateway_that_stops_tries_what_it_holds_once_more(
    store: Store, monkeypatch: pytest.MonkeyPatch, *, back: bool, event: str
) -> None:
    """Who restarts it because the database was away loses no STOP, or is told that he did."""
    monkeypatch.setattr("sms.keeper.RETRY_SECONDS", LONG)
    away, take = True, inbound.take

    def unless_away(store: Store, word: Word) -> bool:
        if away:
            raise StoreDownError("database: away")
        return take(store, word)

    monkeypatch.setattr(inbound, "take", unless_away)
    with capture_logs() as logs:
        async with gateway(store) as twilio:
            assert await twilio.tell(written()) == 503
            away = not back
    assert [log["event"] for log in logs] == [event]
    assert wants_none(store) is back


@pytest.mark.asyncio
async def test_words_are_counted_by_what_they_are(store: Store) -> None:
    before = await scrape(store)
    async with gateway(store) as twilio:
        for text in ("STOP", "STOP", "aide", "contact", "bonjour", MOBILE):
            await twilio.tell(written(text))
    after = await scrape(store)
    counted = {
        word: grown(before, after, "svi_inbound_total", provider="twilio", keyword=word)
        for word in ("stop", "aide", "contact", "other")
    }
    assert counted == {"stop": 2, "aide": 1, "contact": 1, "other": 2}


@pytest.mark.asyncio
async def test_nothing_of_it_is_logged(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    async with gateway(store) as twilio:
        await twilio.tell(written("STOP ma petite fille"))
        await twilio.tell(written("AIDE ma petite fille", To="+33757590000"))
        await twilio.tell(written("STOP ma petite fille"), "forged")
    said = capsys.readouterr()
    shown = said.out + said.err
    for event in ("inbound_kept", "inbound_number_unknown", "inbound_refused"):
        assert event in shown
    for personal in (MOBILE[3:], "fille", "757590000", SID):
        assert personal not in shown
