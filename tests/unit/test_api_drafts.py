"""Requests that only put a message into the outbox: what comes at once is one transaction."""

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from sqlalchemy import select

from shared import client_messages
from shared.api import messages
from shared.api.operation import Incoming, perform, perform_all
from shared.api.problems import KEY_REUSED, ProblemError
from shared.api.routes import Call, Route
from shared.client_messages import Misfit
from shared.idempotency import Answer
from shared.models import IdempotentRequest, Message
from shared.models import Route as MessageRoute
from shared.store import Store
from sms.campaign_texts import CampaignTexts

ROUTE: Route[Any] = messages.ROUTES[0]
MOBILE = "+33612345678"


class OwnTexts(CampaignTexts):
    """Every text but one."""

    def judge(
        self, template: str, variables: Mapping[str, str], route: MessageRoute = MessageRoute.SMS
    ) -> Sequence[Misfit]:
        del variables, route
        return [Misfit("template", "unknown")] * (template == "no")


OWN_TEXTS = OwnTexts({})


def incoming(
    store: Store,
    key: str,
    hour: str = "9 h 30",
    client: str = "site-web",
    template: str = "notice.a",
) -> Incoming:
    body = {
        "template": template,
        "to": MOBILE,
        "variables": {"heure": hour},
        "expires_in_minutes": 60,
    }
    call = Call(store, OWN_TEXTS, client)
    return Incoming(call, ROUTE.request.model_validate(body), key, f"{template} {hour}")


def together(*incomings: Incoming) -> list[Answer | None]:
    assert ROUTE.draft is not None
    return perform_all(ROUTE.draft, incomings)


def sent(store: Store) -> list[str]:
    with store.database.read() as transaction:
        return [str(one) for one in transaction.scalars(select(Message.id))]


def kept(store: Store) -> int:
    with store.database.read() as transaction:
        return len(transaction.scalars(select(IdempotentRequest)).all())


def test_each_has_its_own_answer_and_keeps_it(store: Store) -> None:
    asked = [incoming(store, "b"), incoming(store, "a"), incoming(store, "a", client="appli")]
    answers = together(*asked)
    assert len({one.body for one in answers if one is not None and one.status == 202}) == 3
    assert {one.body.decode()[7:-2] for one in answers if one} == set(sent(store))
    assert [perform(ROUTE, one) for one in asked] == answers
    assert len(sent(store)) == 3


def test_what_was_asked_before_is_left_to_who_knows_its_answer(store: Store) -> None:
    first = perform(ROUTE, incoming(store, "a"))
    old, new = together(incoming(store, "a"), incoming(store, "b"))
    assert (old, new is None) == (None, False)
    assert perform(ROUTE, incoming(store, "a")) == first
    assert len(sent(store)) == 2


def test_the_same_request_twice_at_once_is_done_once(store: Store) -> None:
    answers = together(incoming(store, "a"), incoming(store, "a"))
    [done] = [one for one in answers if one is not None]
    assert perform(ROUTE, incoming(store, "a")) == done
    assert len(sent(store)) == 1


def test_a_key_used_at_once_for_something_else_is_told(store: Store) -> None:
    asked = [incoming(store, "a"), incoming(store, "a", "10 h")]
    answers = together(*asked)
    assert answers.count(None) == 1
    with pytest.raises(ProblemError) as refused:
        perform(ROUTE, asked[answers.index(None)])
    assert refused.value.problem is KEY_REUSED
    assert len(sent(store)) == 1


def test_a_refusal_sends_nothing_and_keeps_nobody_from_sending(store: Store) -> None:
    refused, taken = together(incoming(store, "a", template="no"), incoming(store, "b"))
    assert refused is not None
    assert taken is not None
    assert (refused.status, taken.status) == (422, 202)
    assert perform(ROUTE, incoming(store, "a", template="no")) == refused
    assert len(sent(store)) == 1


def test_an_answer_is_kept_with_the_message_or_not_at_all(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever asks again after we died in the middle has it sent once."""

    def dies(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as dying:
        dying.setattr(client_messages, "put", dies)
        with pytest.raises(KeyboardInterrupt):
            together(incoming(store, "a"))
    assert (kept(store), sent(store)) == (0, [])
    [answer] = together(incoming(store, "a"))
    assert answer is not None
    assert len(sent(store)) == 1
