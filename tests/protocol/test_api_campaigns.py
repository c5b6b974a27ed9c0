"""Campaigns over HTTP (R24): made, given recipients, started, followed, paused, cancelled."""

import json
import logging
from collections.abc import Iterator
from itertools import count
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import update

from shared import campaigns, idempotency, outbox
from shared.apikeys import Scope
from shared.client import StoreClient
from shared.models import IdempotentRequest, MessageState
from shared.store import Store
from sms.templates import Templates
from tests.api import Api, Reply, new_key, running
from tests.campaigns import mobiles
from tests.store import FakeClock, execute

WHEN = {"jour": "mardi 3 mai", "heure": "9 h 30"}
OURS: dict[str, Any] = {"name": "rentree", "route": "sms", "template": "notice.rendez-vous"}
FREE: dict[str, Any] = {"name": "texte", "route": "sms", "text": "Bonjour", "sender": "Caf"}
numbers = count()


@pytest.fixture
def api(store: Store) -> Iterator[Api]:
    with running(store) as api:
        yield api


def post(api: Api, path: str, body: object = None, **more: Any) -> Reply:
    return api.ask("POST", path, body, idempotency=str(next(numbers)).zfill(16), **more)


def create(api: Api, **changed: object) -> str:
    made = post(api, "/v1/campaigns", OURS | changed)
    assert made.status == 201
    return str(made.json["id"])


def everybody(count: int) -> list[dict[str, Any]]:
    return [{"to": number, "variables": WHEN} for number in mobiles(count)]


def add(api: Api, campaign: str, recipients: list[dict[str, Any]]) -> Reply:
    return post(api, "/v1/campaign-recipients", {"campaign": campaign, "recipients": recipients})


def view(api: Api, campaign: str) -> dict[str, Any]:
    shown = api.ask("GET", f"/v1/campaigns/{campaign}")
    assert shown.status == 200
    return shown.json


def faults(reply: Reply) -> set[tuple[str, str]]:
    assert (reply.status, reply.problem) == (422, "invalid")
    return {(fault["field"], fault["reason"]) for fault in reply.json["errors"]}


def test_it_is_made_started_and_followed_to_its_end(api: Api, store: Store) -> None:
    campaign = create(api)
    assert add(api, campaign, everybody(3)).json == {"added": 3, "known": 0}
    assert add(api, campaign, everybody(4)).json == {"added": 1, "known": 3}
    drafted = view(api, campaign)
    assert (drafted["state"], drafted["messages"]) == ("draft", {"held": 4})
    assert campaigns.feed(store) == 0
    assert post(api, f"/v1/campaigns/{campaign}/start").json["state"] == "running"
    assert campaigns.feed(store) == 4
    for claim in outbox.claim(store, "moody", Templates.load().render, 4):
        outbox.finish(store, claim, outbox.Report(outbox.Result.ACCEPTED), 0)
    campaigns.feed(store)
    ended = view(api, campaign)
    assert (ended["state"], ended["messages"]) == ("ended", {"accepted": 4})
    assert None not in (ended["started_at"], ended["ended_at"])


def test_it_is_paused_resumed_and_cancelled(api: Api, store: Store) -> None:
    campaign = create(api)
    add(api, campaign, everybody(2))
    states = []
    for how in ("start", "pause", "pause", "resume", "cancel", "cancel"):
        moved = post(api, f"/v1/campaigns/{campaign}/{how}")
        states.append(moved.json["state"])
    assert states == ["running", "paused", "paused", "running", "cancelled", "cancelled"]
    refused = post(api, f"/v1/campaigns/{campaign}/start")
    assert (refused.status, refused.problem) == (409, "campaign-state")
    late = add(api, campaign, everybody(1))
    assert (late.status, late.problem) == (409, "campaign-state")
    campaigns.feed(store)
    assert view(api, campaign)["messages"] == {"cancelled": 2}


def test_the_most_recipients_at_a_time_are_a_thousand(api: Api, store: Store) -> None:
    campaign = create(api)
    assert add(api, campaign, everybody(1000)).json == {"added": 1000, "known": 0}
    assert faults(add(api, campaign, everybody(1001))) == {("recipients", "too_long")}


def test_one_wrong_recipient_and_none_is_added(api: Api, store: Store) -> None:
    """The answer says which and why, and nothing of it."""
    campaign = create(api)
    [right] = everybody(1)
    wrong = [
        right,
        right | {"to": "+33199009900"},
        right | {"variables": {"jour": "mardi"}},
        right | {"variables": WHEN | {"heure": "https://exemple.fr"}},
        right | {"variables": WHEN | {"jour": "allez sur exemple.fr"}},
        right | {"department": "999"},
    ]
    refused = add(api, campaign, wrong)
    assert faults(refused) == {
        ("recipients.1.to", "not_a_french_mobile"),
        ("recipients.2.variables.heure", "missing"),
        ("recipients.3.variables.heure", "too_long"),
        ("recipients.4.variables", "link"),
        ("recipients.5.department", "not_a_department"),
    }
    assert b"exemple" not in refused.body
    assert b"3319900" not in refused.body
    assert view(api, campaign)["messages"] == {}


WRONG = {
    "no words": ({"template": None}, {("template", "unknown")}),
    "the store's own": ({"template": "password"}, {("template", "unknown")}),
    "a template without mail": ({"route": "mail"}, {("template", "unknown")}),
    "a text and a template": ({"text": "Bonjour"}, {("text", "extra_forbidden")}),
    "another's sender": ({"sender": "Banque"}, {("sender", "unknown")}),
    "an SMS with a subject": ({"subject": "Bonjour"}, {("subject", "extra_forbidden")}),
    "no name": ({"name": "Rentrée"}, {("name", "string_pattern_mismatch")}),
}


@pytest.mark.parametrize(("changed", "reasons"), WRONG.values(), ids=WRONG)
def test_what_is_wrong_is_said(
    api: Api, changed: dict[str, object], reasons: set[tuple[str, str]]
) -> None:
    assert faults(post(api, "/v1/campaigns", OURS | changed)) == reasons


TEXTS = {
    "a link": ("Allez sur exemple.fr/caf", {("text", "link")}),
    "an emoji": ("Bonjour \N{WAVING HAND SIGN}", {("text", "not_gsm7")}),
    "a variable": ("Bonjour {nom}", {("text", "variable")}),
    "too much": ("a" * 460, {("text", "too_long")}),
    "too much to be searched": ("a" * 460 + "{exemple.fr", {("text", "too_long")}),
    "a NUL": ("Bon\0jour", {("text", "control_character"), ("text", "not_gsm7")}),
    "nothing": (" \n ", {("text", "missing")}),
}


@pytest.mark.parametrize(("text", "reasons"), TEXTS.values(), ids=TEXTS)
def test_a_text_of_one_s_own_is_judged_as_the_file_s_are(
    api: Api, text: str, reasons: set[tuple[str, str]]
) -> None:
    """D14."""
    assert faults(post(api, "/v1/campaigns", FREE | {"text": text})) == reasons


def test_a_text_of_one_s_own_needs_a_right_of_its_own(api: Api, store: Store) -> None:
    poor = new_key(store, "site-web", Scope.CAMPAIGNS)
    refused = post(api, "/v1/campaigns", FREE, key=poor)
    assert (refused.status, refused.problem) == (403, "scope-lacking")
    assert post(api, "/v1/campaigns", OURS, key=poor).status == 201
    rich = new_key(store, "site-web", Scope.CAMPAIGNS, Scope.CAMPAIGN_TEXTS)
    assert post(api, "/v1/campaigns", FREE, key=rich).status == 201
    other = post(api, "/v1/campaigns", OURS, key=new_key(store, "autre", Scope.MESSAGES))
    assert (other.status, other.problem) == (403, "scope-lacking")


def test_a_text_is_written_in_gsm7_before_it_is_kept(api: Api, store: Store) -> None:
    made = post(api, "/v1/campaigns", FREE | {"text": "Où êtes-vous ?"}).json["id"]
    add(api, made, [{"to": mobiles(1)[0]}])
    post(api, f"/v1/campaigns/{made}/start")
    campaigns.feed(store)
    [claim] = outbox.claim(store, "moody", Templates.load().render, 1)
    assert (claim.text.reveal(), claim.sender) == ("Où etes-vous ?", "Caf")


def test_a_client_has_its_own_alone(api: Api, store: Store) -> None:
    campaign = create(api)
    theirs = new_key(store, "autre", *Scope)
    assert api.ask("GET", f"/v1/campaigns/{campaign}", key=theirs).status == 404
    body = {"campaign": campaign, "recipients": everybody(1)}
    assert post(api, "/v1/campaign-recipients", body, key=theirs).status == 404
    for how in ("start", "pause", "resume", "cancel"):
        assert post(api, f"/v1/campaigns/{campaign}/{how}", key=theirs).status == 404
        assert post(api, f"/v1/campaigns/{uuid4()}/{how}").status == 404
    assert post(api, "/v1/campaigns", OURS, key=theirs).status == 201
    again = post(api, "/v1/campaigns", OURS)
    assert (again.status, again.problem) == (409, "name-taken")


def test_repeated_with_the_same_key_it_is_done_once(api: Api) -> None:
    first, second = (api.ask("POST", "/v1/campaigns", OURS, idempotency="x" * 16) for _ in range(2))
    assert (first.status, first.body) == (second.status, second.body)


def test_repeated_after_a_crash_before_its_answer_was_kept_it_is_the_same(
    api: Api, store: Store, clock: FakeClock
) -> None:
    """Nobody else's: a new request for that name is still refused."""

    def create_with(key: str) -> Reply:
        return api.ask("POST", "/v1/campaigns", OURS, idempotency=key * 16)

    first = create_with("x")
    lost = update(IdempotentRequest).values(status=None, answer_sealed=None)
    execute(store, lambda transaction: transaction.execute(lost))
    clock.advance(idempotency.LEASE)
    again = create_with("x")
    assert (again.status, again.body) == (201, first.body)
    other = create_with("y")
    assert (other.status, other.problem) == (409, "name-taken")


def test_nobody_is_named_in_an_answer_or_a_log(
    api: Api, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    campaign = create(api)
    replies = [add(api, campaign, everybody(3)), post(api, f"/v1/campaigns/{campaign}/start")]
    shown = json.dumps(view(api, campaign)) + "".join(reply.body.decode() for reply in replies)
    told = shown + caplog.text + "".join(capfd.readouterr())
    for personal in (*mobiles(3), mobiles(1)[0][3:], *WHEN.values()):
        assert personal not in told


def test_the_client_that_the_docs_show_does_it_all(api: Api) -> None:
    client = StoreClient(api.url, api.key)
    campaign = client.create_campaign("rentree", "sms", template="notice.rendez-vous")
    assert client.add_recipients(campaign, everybody(2)) == 2
    assert client.move_campaign(campaign, "start")["state"] == "running"
    shown = client.campaign(campaign)
    assert shown["messages"] == {MessageState.HELD: 2}
