"""No caller can tell why a password was refused: same prompts, same operations (D07)."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

import pytest
from sqlalchemy import update

from ivr.simulated import SimulatedCall
from shared import life_cycle
from shared.life_cycle import Key
from shared.models import Credential
from shared.origin import Origin
from shared.rules import Channel
from shared.store import Store
from tests.store import (
    CAISSE,
    NUMBER,
    PASSWORD,
    CountingHasher,
    add_account,
    execute,
    log_in,
    watch,
)
from tests.telephony import ANOTHER_WRONG, OTHER_WRONG, WRONG, running, script_with_silence

END_SECONDS = 30.0
UNKNOWN = "9999999"
THREE_WRONG = (WRONG, OTHER_WRONG, ANOTHER_WRONG)
THREE_RIGHT = (PASSWORD, PASSWORD, PASSWORD)


def _nothing(_: Store) -> None:
    pass


def _lock(store: Store) -> None:
    for caller in range(5):
        log_in(store, WRONG, caller_id=f"+3319900000{caller}")


def _expire(store: Store) -> None:
    yesterday = store.clock() - timedelta(days=1)
    execute(store, lambda t: t.execute(update(Credential).values(expires_at=yesterday)))


def _revoke(store: Store) -> None:
    life_cycle.revoke(store, Key(CAISSE, NUMBER), Origin(Channel.ADMIN), reissue=False)


REFUSALS = {
    "wrong": (_nothing, THREE_WRONG),
    "right while locked": (_lock, THREE_RIGHT),
    "wrong while locked": (_lock, THREE_WRONG),
    "expired and wrong": (_expire, THREE_WRONG),
    "revoked, right": (_revoke, THREE_RIGHT),
    "revoked, wrong": (_revoke, THREE_WRONG),
}


@dataclass(frozen=True)
class Observed:
    """All that a call shows of itself: to the caller, to Asterisk, to the database."""

    heard: list[str]
    variables: dict[str, str]
    statements: list[str]
    hashes: int


@pytest.mark.parametrize(("before", "typed"), REFUSALS.values(), ids=REFUSALS)
def test_every_refused_call_is_like_that_for_an_unknown_number(
    store: Store,
    hasher: CountingHasher,
    before: Callable[[Store], None],
    typed: tuple[str, ...],
) -> None:
    add_account(store)
    before(store)
    refused = _call(store, hasher, NUMBER, typed, caller="0199010001")
    assert refused == _call(store, hasher, UNKNOWN, THREE_WRONG, caller="0199010002")
    assert refused.heard.count("identification-refusee") == 3
    assert refused.heard[-2:] == ["identification-impossible", "transfert-conseiller"]
    assert refused.hashes == 3


def _call(
    store: Store, hasher: CountingHasher, number: str, typed: tuple[str, ...], caller: str
) -> Observed:
    """Place a call to its end; the digits of the number are left out of what was heard."""
    hashes = hasher.compared + hasher.pretended
    seen = watch(store.database)
    with running(store, script_with_silence()) as server:
        with SimulatedCall(server.address, caller=caller, groups=[CAISSE, number, *typed]) as call:
            call.wait_end(END_SECONDS)
        server.stop(END_SECONDS)
    return Observed(
        [prompt for prompt in call.heard if not prompt.startswith("chiffre-")],
        call.variables,
        seen.copy(),
        hasher.compared + hasher.pretended - hashes,
    )
