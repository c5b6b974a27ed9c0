"""NIR and a one-time code by SMS, on the telephone after the cut-over (D10)."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from shared import dossier, one_time
from shared.credentials import Refusal
from shared.origin import Origin
from shared.rules import Channel
from shared.secret import Secret
from shared.store import Store
from tests.store import CAISSE, OWNER, SECOND, STRANGER, FakeClock, watch
from tests.web import (
    CLAIRE,
    NIR,
    UNKNOWN_NIR,
    add_dossier,
    last_code,
    sent,
    with_passage,
    wrong_code,
)

CUT_OVER = datetime(2022, 3, 31, 22, tzinfo=UTC)  # midnight of 1 April 2022 in Paris
CALL = Origin(Channel.VOICE, OWNER, "call-1")


@pytest.fixture
def after(store: Store, clock: FakeClock) -> Store:
    """The store after the cut-over, with the line that the rules ship as an example."""
    clock.now = CUT_OVER
    return with_passage(
        store,
        credential="one-time-code",
        identifier="nir",
        channel="voice",
        **{"from": datetime(2022, 4, 1)},  # noqa: DTZ001 - Paris time, as in the file
    )


def test_the_code_opens_every_dossier_of_the_person(after: Store, clock: FakeClock) -> None:
    first = add_dossier(after)
    clock.advance(timedelta(days=1))
    second = add_dossier(after, "7654321")
    one_time.request(after, NIR, CAISSE, CALL)
    sessions = one_time.verify(after, NIR, last_code(after), CALL)
    assert isinstance(sessions, tuple)
    assert [session.account_id for session in sessions] == [second, first]
    assert dossier.last_payment(after, sessions[0]) is None


def test_the_code_goes_to_the_newest_dossier_that_has_a_mobile(
    after: Store, clock: FakeClock
) -> None:
    add_dossier(after)
    clock.advance(timedelta(days=1))
    add_dossier(after, "7654321", replace(CLAIRE, mobile=None))
    one_time.request(after, NIR, CAISSE, CALL)
    assert [message.destination for message in sent(after)] == [OWNER]


def test_it_is_for_who_asked_and_hangs_up_to_read_the_sms(after: Store) -> None:
    add_dossier(after)
    one_time.request(after, NIR, CAISSE, CALL)
    code = last_code(after)
    stranger = Origin(Channel.VOICE, STRANGER, "call-2")
    assert one_time.verify(after, NIR, code, stranger) is Refusal.REFUSED
    assert one_time.verify(after, UNKNOWN_NIR, code, CALL) is Refusal.REFUSED
    again = Origin(Channel.VOICE, OWNER, "call-3")
    assert isinstance(one_time.verify(after, NIR, code, again), tuple)


def test_it_opens_from_the_cut_over_on(after: Store, clock: FakeClock) -> None:
    add_dossier(after)
    clock.now = CUT_OVER - SECOND
    one_time.request(after, NIR, CAISSE, CALL)
    assert sent(after) == []
    clock.now = CUT_OVER
    one_time.request(after, NIR, CAISSE, CALL)
    code = last_code(after)
    clock.now = CUT_OVER - SECOND
    assert one_time.verify(after, NIR, code, CALL) is Refusal.REFUSED
    clock.now = CUT_OVER
    assert isinstance(one_time.verify(after, NIR, code, CALL), tuple)


def test_it_is_closed_as_the_rules_ship(store: Store, clock: FakeClock) -> None:
    add_dossier(store)
    clock.now = CUT_OVER
    one_time.request(store, NIR, CAISSE, CALL)
    assert sent(store) == []


def test_an_unknown_nir_can_not_be_told(after: Store) -> None:
    """The same statements to ask, and to be refused (D04, D07)."""
    add_dossier(after)
    seen = watch(after.database)
    one_time.request(after, NIR, CAISSE, CALL)
    asked = seen.copy()
    wrong = wrong_code(after)
    seen.clear()
    one_time.verify(after, NIR, wrong, CALL)
    refused = seen.copy()

    seen.clear()
    one_time.request(after, UNKNOWN_NIR, CAISSE, CALL)
    assert seen == asked
    seen.clear()
    assert one_time.verify(after, UNKNOWN_NIR, Secret("000000"), CALL) is Refusal.REFUSED
    assert seen == refused


def test_a_code_is_good_once(after: Store) -> None:
    add_dossier(after)
    one_time.request(after, NIR, CAISSE, CALL)
    code = last_code(after)
    assert isinstance(one_time.verify(after, NIR, code, CALL), tuple)
    assert one_time.verify(after, NIR, code, CALL) is Refusal.REFUSED


def test_a_request_too_many_takes_nothing_from_the_code_before(
    after: Store, clock: FakeClock
) -> None:
    """R15: what is not sent replaces nothing."""
    add_dossier(after)
    for _ in range(after.rules.code.resends + 2):
        one_time.request(after, NIR, CAISSE, CALL)
        clock.advance(SECOND)
    assert len(sent(after)) == after.rules.code.resends + 1
    assert isinstance(one_time.verify(after, NIR, last_code(after), CALL), tuple)
