"""How long a refusal takes tells nobody why (D07): `make soak`, with hashes at their real costs.

Each round makes every kind of attempt once, in random order, so that whatever else the machine does
disturbs all alike; kinds are compared within their rounds. Two attempts that do differ, by a hash
left out and by a fifth of the time more, show that the comparison would notice.
"""

import random
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import count
from math import erfc, sqrt

import numpy as np
import numpy.typing as npt
import pytest
from sqlalchemy import select, update

from shared import life_cycle
from shared.credentials import Refusal
from shared.hashing import Hasher
from shared.life_cycle import Key
from shared.models import Account, Credential
from shared.origin import Origin
from shared.rules import Channel, load_rules
from shared.secret import Secret
from shared.store import Store
from tests import api
from tests.store import CAISSE, PASSWORD, FakeClock, add_account, execute, log_in

WRONG = "16042738"
ROUNDS = 300
WARM_UP = 10
ACCOUNTS = 80  # of each kind: one is tried four times, so none is locked on the way
ALIKE = 1e-4  # a p-value that chance goes below once in 10,000 comparisons
DIFFERENT = 1e-9
SLOWER_SHARE = 0.2  # of what an attempt takes
BEFORE_THE_BASCULE = datetime(2021, 10, 1, 9, 30, tzinfo=UTC)  # the number opens on the web (R17)

UNKNOWN = "unknown number"
NO_HASH, SLOWER = "(no hash at all)", "(a fifth more)"

Seconds = npt.NDArray[np.float64]
Try = Callable[[str, str], object]
"""Tries to log in with a number and a password, as a stranger."""


class NoHasher(Hasher):
    """Computes nothing for an attempt that has nothing to compare."""

    def pretend(self, secret: Secret) -> None:
        pass


def _leave(_store: Store, _number: str) -> None:
    pass


def _lock(store: Store, number: str) -> None:
    for stranger in range(5):
        log_in(store, WRONG, number=number, caller_id=f"+3317{number}{stranger}")


def _expire(store: Store, number: str) -> None:
    account = select(Account.id).where(Account.number == number).scalar_subquery()
    expired = update(Credential).where(Credential.account_id == account)
    yesterday = store.clock() - timedelta(days=1)
    execute(store, lambda transaction: transaction.execute(expired.values(expires_at=yesterday)))


def _revoke(store: Store, number: str) -> None:
    life_cycle.revoke(store, Key(CAISSE, number), Origin(Channel.ADMIN), reissue=False)


# What befell the account, and what is typed.
KINDS: Mapping[str, tuple[Callable[[Store, str], None], str]] = {
    "wrong": (_leave, WRONG),
    "expired and wrong": (_expire, WRONG),
    "revoked, right": (_revoke, PASSWORD),
    "locked, right": (_lock, PASSWORD),
}
PREFIXES = {kind: rank for rank, kind in enumerate([UNKNOWN, NO_HASH, SLOWER, *KINDS])}


@contextmanager
def _by_voice(store: Store, strangers: Iterator[int]) -> Iterator[Try]:
    def attempt(number: str, password: str) -> None:
        caller_id = f"+3319{next(strangers):07}"
        assert log_in(store, password, number=number, caller_id=caller_id) is Refusal.REFUSED

    yield attempt


@contextmanager
def _by_web(store: Store, strangers: Iterator[int]) -> Iterator[Try]:
    with api.running(store) as served:

        def attempt(number: str, password: str) -> None:
            rank = next(strangers)
            asked = {"number": number, "password": password, "client": f"stranger-{rank}"}
            key = f"{rank:016}"
            reply = served.ask("POST", "/v1/logins", api.LOGIN | asked, idempotency=key)
            assert reply.problem == "login-refused"

        yield attempt


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("trying", [_by_voice, _by_web], ids=["by voice", "by web"])
def test_how_long_a_refusal_takes_does_not_tell_why(
    store: Store,
    clock: FakeClock,
    capsys: pytest.CaptureFixture[str],
    trying: Callable[[Store, Iterator[int]], AbstractContextManager[Try]],
) -> None:
    clock.now = BEFORE_THE_BASCULE
    rules = load_rules()
    store = replace(store, rules=rules, hasher=Hasher(rules.argon2))
    for kind, (befall, _) in KINDS.items():
        for rank in range(ACCOUNTS):
            number = _number(kind, rank)
            add_account(store, number, mobile=None)
            befall(store, number)
    strangers, careless = count(), replace(store, hasher=NoHasher(rules.argon2))
    with trying(store, strangers) as attempt, trying(careless, strangers) as hashless:
        taken = _measure(_attempts(attempt, hashless))

    apart = {kind: seconds - taken[UNKNOWN] for kind, seconds in taken.items() if kind != UNKNOWN}
    with capsys.disabled():
        sys.stdout.write(f"\n{UNKNOWN}: {np.median(taken[UNKNOWN]) * 1e3:.2f} ms\n")
        for kind, differences in apart.items():
            sys.stdout.write(f"{kind}: {_figures(differences)}\n")
    assert [kind for kind in KINDS if p_value(apart[kind]) < ALIKE] == []
    assert [kind for kind in (NO_HASH, SLOWER) if p_value(apart[kind]) >= DIFFERENT] == []


def _number(kind: str, rank: int) -> str:
    return f"{PREFIXES[kind]}{rank % ACCOUNTS:06}"


def _attempts(attempt: Try, hashless: Try) -> dict[str, Callable[[int], object]]:
    """Give by kind how to make the attempt of a round."""

    def of_kind(kind: str, typed: str) -> Callable[[int], object]:
        return lambda rank: attempt(_number(kind, rank), typed)

    def slower(rank: int) -> None:
        began = time.perf_counter()
        attempt(_number(SLOWER, rank), WRONG)
        time.sleep(SLOWER_SHARE * (time.perf_counter() - began))

    return {
        UNKNOWN: of_kind(UNKNOWN, WRONG),
        **{kind: of_kind(kind, typed) for kind, (_, typed) in KINDS.items()},
        NO_HASH: lambda rank: hashless(_number(NO_HASH, rank), WRONG),
        SLOWER: slower,
    }


def _measure(attempts: Mapping[str, Callable[[int], object]]) -> dict[str, Seconds]:
    """Give by kind how long the attempt took in each round."""
    chance = random.Random(7)  # noqa: S311
    taken: dict[str, list[float]] = {kind: [] for kind in attempts}
    for rank in range(WARM_UP + ROUNDS):
        for kind in chance.sample(list(attempts), len(attempts)):
            began = time.perf_counter()
            attempts[kind](rank)
            taken[kind].append(time.perf_counter() - began)
    return {kind: np.array(seconds[WARM_UP:]) for kind, seconds in taken.items()}


def p_value(differences: Seconds) -> float:
    """Give how probable differences so far from 0 would be by chance (Wilcoxon's signed ranks)."""
    ranks = np.empty(len(differences))
    ranks[np.argsort(np.abs(differences))] = np.arange(1, len(differences) + 1)
    deviation = float(np.sum(np.sign(differences) * ranks)) / sqrt(float(np.sum(ranks**2)))
    return erfc(abs(deviation) / sqrt(2))


def _figures(differences: Seconds) -> str:
    low, median, high = np.percentile(differences * 1e3, [25, 50, 75])
    return f"{median:+.3f} ms ({low:+.3f} to {high:+.3f}), p = {p_value(differences):.2g}"
