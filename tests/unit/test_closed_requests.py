"""What is asked for to get in later: nothing of it is sent while an incident stands (D15)."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from sqlalchemy import update

from shared import incident, one_time, provisional, recovery, resets
from shared.errors import ClosedError
from shared.life_cycle import Key
from shared.models import Account, Route
from shared.origin import ADMIN, Origin
from shared.people import PersonData
from shared.recovery import Claim
from shared.rules import Channel, Identifier
from shared.sessions import Session
from shared.store import Store
from shared.web_accounts import Holder
from tests.store import CAISSE, NUMBER, FakeClock, execute, watch
from tests.web import (
    CLAIRE,
    NIR,
    UNKNOWN_NIR,
    add_dossier,
    last_code,
    sent,
    web,
    with_passage,
    wrong_code,
)

CUT_OVER = datetime(2022, 3, 31, 22, tzinfo=UTC)  # midnight of 1 April 2022 in Paris
CALL = Origin(Channel.VOICE, "+33199009900", "call-1")
WITHOUT_NIR = "0000002"  # the number of Awa's dossier
UNKNOWN_NUMBER = "9999999"
AWA = replace(CLAIRE, surname="Diallo", given_names="Awa", nir=None)
NOBODY = replace(AWA, surname="Personne")
ELSEWHERE = "92"
DAY = timedelta(days=1)


@dataclass(frozen=True)
class Asked:
    """One thing asked for: by whom it may be meant, and whether the request names a caisse."""

    channel: Channel
    ask: Callable[[Store, bool], object]
    names_caisse: bool = False
    after_the_cut_over: bool = False


def _who(known: bool) -> PersonData:
    return AWA if known else NOBODY


def _password(origin: Origin) -> Callable[[Store, bool], object]:
    return lambda store, known: resets.request_password(
        store, CAISSE, NUMBER if known else UNKNOWN_NUMBER, origin
    )


def _recovery(store: Store, known: bool) -> UUID:
    holder = Holder(Identifier.NIR, NIR if known else UNKNOWN_NIR)
    return recovery.request(store, Claim(holder, "Lefèvre", Route.SMS), web())


REQUESTS = {
    "a password on the telephone": Asked(Channel.VOICE, _password(CALL), names_caisse=True),
    "a password on the web": Asked(Channel.WEB, _password(web()), names_caisse=True),
    "a code on the telephone": Asked(
        Channel.VOICE,
        lambda store, known: one_time.request(
            store, NIR if known else UNKNOWN_NIR, ELSEWHERE, CALL
        ),
        after_the_cut_over=True,
    ),
    "a code on the web": Asked(Channel.WEB, _recovery),
    "a first provisional identifier": Asked(
        Channel.WEB,
        lambda store, known: provisional.request(
            store, Key(CAISSE, WITHOUT_NIR), _who(known), web()
        ),
        names_caisse=True,
    ),
    "a provisional identifier again": Asked(
        Channel.WEB, lambda store, known: provisional.remind(store, _who(known), web())
    ),
}


@pytest.fixture(params=REQUESTS.values(), ids=[*REQUESTS])
def asked(request: pytest.FixtureRequest) -> Asked:
    asked: Asked = request.param
    return asked


@pytest.fixture
def ready(store: Store, clock: FakeClock, asked: Asked) -> Store:
    """A store in which whatever is asked for would be sent."""
    add_dossier(store)
    add_dossier(store, WITHOUT_NIR, AWA)
    provisional.request(store, Key(CAISSE, WITHOUT_NIR), AWA, web())
    clock.advance(DAY)
    if not asked.after_the_cut_over:
        return store
    clock.now = CUT_OVER
    return with_passage(
        store,
        credential="one-time-code",
        identifier="nir",
        channel="voice",
        **{"from": datetime(2022, 4, 1)},  # noqa: DTZ001 - Paris time, as in the rules
    )


def refused(store: Store, ask: Callable[[], object]) -> list[str]:
    """Ask in vain; give the statements that it took."""
    statements = watch(store.database)
    with pytest.raises(ClosedError):
        ask()
    return statements.copy()


@pytest.mark.parametrize("whole", [True, False], ids=["the service", "the channel"])
def test_what_is_closed_refuses_all_alike_before_any_look_up(
    ready: Store, asked: Asked, *, whole: bool
) -> None:
    """D04, D15: and what is open again sends as before."""
    scope = incident.SERVICE if whole else incident.CHANNEL + asked.channel
    before = sent(ready)
    incident.raise_incident(ready, scope)
    statements = refused(ready, lambda: asked.ask(ready, True))
    assert refused(ready, lambda: asked.ask(ready, False)) == statements
    assert [one for one in statements if "FROM account" in one or "FROM person" in one] == []
    assert sent(ready) == before
    incident.lift(ready, scope)
    asked.ask(ready, True)
    assert len(sent(ready)) == len(before) + 1


def test_another_channel_closes_nothing_of_it(ready: Store, asked: Asked) -> None:
    before = sent(ready)
    incident.raise_incident(ready, incident.CHANNEL + Channel.KIOSK)
    incident.raise_incident(ready, incident.CAISSE + "13")
    asked.ask(ready, True)
    assert len(sent(ready)) == len(before) + 1


def test_a_closed_caisse_sends_nothing(ready: Store, asked: Asked) -> None:
    """D15: told only to who named it; else it would be news of where a dossier is (D04)."""
    before = sent(ready)
    incident.raise_incident(ready, incident.CAISSE + CAISSE)
    if asked.names_caisse:
        statements = refused(ready, lambda: asked.ask(ready, True))
        assert refused(ready, lambda: asked.ask(ready, False)) == statements
    else:
        statements = watch(ready.database)
        asked.ask(ready, True)
        done = Counter(statements)
        statements.clear()
        asked.ask(ready, False)
        assert Counter(statements) == done
    assert sent(ready) == before


def test_the_caisse_that_a_caller_keyed_is_told(store: Store) -> None:
    """D15: on the telephone a NIR comes after a département."""
    incident.raise_incident(store, incident.CAISSE + ELSEWHERE)
    with pytest.raises(ClosedError):
        one_time.request(store, NIR, ELSEWHERE, CALL)


def test_a_dossier_elsewhere_is_still_sent_its_code(store: Store) -> None:
    """D15: the caisse that counts is that of the dossier."""
    account_id = add_dossier(store)
    moved = update(Account).where(Account.id == account_id).values(caisse=ELSEWHERE)
    execute(store, lambda transaction: transaction.execute(moved))
    incident.raise_incident(store, incident.CAISSE + CAISSE)
    _recovery(store, known=True)
    assert len(sent(store)) == 1


@pytest.mark.parametrize(
    "scope", [incident.SERVICE, incident.CHANNEL + Channel.WEB], ids=["the service", "the channel"]
)
def test_a_code_that_came_before_is_neither_right_nor_wrong(store: Store, scope: str) -> None:
    """D15: and stays good."""
    add_dossier(store)
    code_id = _recovery(store, known=True)
    right, wrong = last_code(store), wrong_code(store)
    incident.raise_incident(store, scope)
    statements = refused(store, lambda: recovery.verify(store, code_id, right, web()))
    for _ in range(10):
        again = refused(store, lambda: recovery.verify(store, code_id, wrong, web()))
        assert again == statements
    incident.lift(store, scope)
    assert isinstance(recovery.verify(store, code_id, right, web()), Session)


def test_what_an_operator_replaces_goes_out_all_the_same(store: Store) -> None:
    """D15: `void` issues new passwords while everything is closed."""
    add_dossier(store)
    incident.raise_incident(store, incident.SERVICE)
    resets.replace_after_incident(store, CAISSE, NUMBER, store.clock(), ADMIN)
    assert len(sent(store)) == 1
