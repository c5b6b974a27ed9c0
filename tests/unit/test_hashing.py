"""Argon2id hashes: their costs, and the stored ones that are not even tried (D13)."""

import os
import resource
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from argon2 import PasswordHasher, Type
from argon2.exceptions import HashingError
from argon2.low_level import hash_secret

from shared import hashing
from shared.hashing import Hasher, HashRefusedError
from shared.rules import Argon2, load_rules
from shared.secret import Secret
from tests.store import CHEAP, PASSWORD, CountingHasher

RIGHT = Secret(PASSWORD)
WRONG = Secret("83927416")
SALT_AND_HASH = "c29tZXNhbHRzb21lc2FsdA$" + "A" * 43


@pytest.fixture(scope="module")
def hasher() -> Hasher:
    return Hasher(CHEAP)


def test_hashes_are_argon2id_at_the_costs_of_the_rules() -> None:
    stored = Hasher(load_rules().argon2).hash(RIGHT)
    assert stored.startswith("$argon2id$v=19$m=19456,t=2,p=1$")


def test_the_right_secret_matches_and_no_other(hasher: Hasher) -> None:
    stored = hasher.hash(RIGHT)
    assert hasher.match([stored], RIGHT)
    assert not hasher.match([stored], WRONG)
    assert not hasher.match([stored], Secret(""))
    assert not hasher.match([stored], Secret(PASSWORD + "\0"))


def test_a_hash_like_another_is_tested_with_it_in_one_computation(hasher: Hasher) -> None:
    stored = hasher.hash(RIGHT)
    like = hasher.hash_like(WRONG, stored)
    assert hasher.match([stored, like], RIGHT) == stored
    assert hasher.match([stored, like], WRONG) == like
    assert hasher.match([stored, like], Secret("11223344")) is None


def test_a_hash_like_none_has_a_salt_of_its_own(hasher: Hasher) -> None:
    assert hasher.hash_like(RIGHT, None) != hasher.hash_like(RIGHT, None)


def test_a_hash_like_one_that_is_not_ours_is_refused(hasher: Hasher) -> None:
    with pytest.raises(HashRefusedError):
        hasher.hash_like(RIGHT, REFUSED["16 GiB of memory"])


def test_equal_secrets_have_different_hashes(hasher: Hasher) -> None:
    assert hasher.hash(RIGHT) != hasher.hash(RIGHT)


@pytest.mark.parametrize(
    ("costs", "outdated"),
    [
        (CHEAP, False),
        (Argon2(memory_kib=16, passes=1, lanes=1), True),
        (Argon2(memory_kib=8, passes=2, lanes=1), True),
        (Argon2(memory_kib=16, passes=1, lanes=2), True),
    ],
    ids=["today's", "other memory", "other passes", "other lanes"],
)
def test_a_hash_made_at_other_costs_is_outdated(
    hasher: Hasher, costs: Argon2, outdated: bool
) -> None:
    assert hasher.outdated(Hasher(costs).hash(RIGHT)) is outdated


REFUSED = {
    "16 GiB of memory": f"$argon2id$v=19$m=16777216,t=2,p=1${SALT_AND_HASH}",
    "a little too much memory": f"$argon2id$v=19$m=65537,t=2,p=1${SALT_AND_HASH}",
    "a billion passes": f"$argon2id$v=19$m=8,t=1000000000,p=1${SALT_AND_HASH}",
    "a few passes too many": f"$argon2id$v=19$m=8,t=11,p=1${SALT_AND_HASH}",
    "a thousand lanes": f"$argon2id$v=19$m=65536,t=1,p=1000${SALT_AND_HASH}",
    "a lane too many": f"$argon2id$v=19$m=64,t=1,p=5${SALT_AND_HASH}",
    "argon2i": f"$argon2i$v=19$m=8,t=1,p=1${SALT_AND_HASH}",
    "argon2d": f"$argon2d$v=19$m=8,t=1,p=1${SALT_AND_HASH}",
    "a megabyte of hash": f"$argon2id$v=19$m=8,t=1,p=1${SALT_AND_HASH}" + "A" * 1_000_000,
    "a megabyte of dollars": "$" * 1_000_000,
    "no memory": f"$argon2id$v=19$m=0,t=1,p=1${SALT_AND_HASH}",
    "negative passes": f"$argon2id$v=19$m=8,t=-1,p=1${SALT_AND_HASH}",
    "a cost that is no number": f"$argon2id$v=19$m=x,t=1,p=1${SALT_AND_HASH}",
    "salt that is no base64": "$argon2id$v=19$m=8,t=1,p=1$????$????",
    "a hash of 24 bytes": "$argon2id$v=19$m=8,t=1,p=1$c29tZXNhbHRzb21lc2FsdA$" + "A" * 32,
    "cut": f"$argon2id$v=19$m=8,t=1,p=1${SALT_AND_HASH[:8]}",
    "bcrypt": "$2b$12$abcdefghijklmnopqrstuv",
    "the secret itself": PASSWORD,
    "not ASCII": "é",
    "a NUL": "\0",
    "empty": "",
}


@pytest.mark.parametrize("stored", REFUSED.values(), ids=REFUSED)
def test_a_hash_that_is_not_ours_is_refused_without_being_computed(stored: str) -> None:
    hasher = CountingHasher()
    before = resource.getrusage(resource.RUSAGE_SELF)
    with pytest.raises(HashRefusedError) as raised:
        hasher.match([stored], RIGHT)
    after = resource.getrusage(resource.RUSAGE_SELF)
    assert after.ru_maxrss - before.ru_maxrss < 32 * 1024  # KiB
    assert after.ru_utime - before.ru_utime < 0.2
    assert PASSWORD not in str(raised.value)


def test_the_dearest_allowed_hash_is_computed(hasher: Hasher) -> None:
    dearest = Argon2(
        memory_kib=hashing.MAX_MEMORY_KIB, passes=hashing.MAX_PASSES, lanes=hashing.MAX_LANES
    )
    assert hasher.match([Hasher(dearest).hash(RIGHT)], RIGHT)


def test_pretending_costs_what_comparing_does(monkeypatch: pytest.MonkeyPatch) -> None:
    costs = []

    def watched(secret: bytes, salt: bytes, *others: Any) -> bytes:
        costs.append((len(salt), *others))
        return hash_secret(secret, salt, *others)

    hasher = Hasher(CHEAP)
    monkeypatch.setattr(hashing, "hash_secret", watched)
    stored = hasher.hash(RIGHT)
    hasher.match([stored, hasher.hash_like(WRONG, stored)], WRONG)
    hasher.pretend(WRONG)
    assert costs == [(16, 1, 8, 1, 32, Type.ID, 19)] * 3  # one to make the second, one for each


def test_argon2_out_of_memory_is_no_wrong_password(monkeypatch: pytest.MonkeyPatch) -> None:
    def starved(*_: object) -> bytes:
        raise HashingError("Memory allocation error")

    hasher = Hasher(CHEAP)
    stored = hasher.hash(RIGHT)
    monkeypatch.setattr(hashing, "hash_secret", starved)
    with pytest.raises(HashRefusedError):
        hasher.match([stored], RIGHT)


def test_no_more_computations_at_a_time_than_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    at_work, most = 0, 0
    lock, both = threading.Lock(), threading.Barrier(2)

    def slow(*_: object) -> bytes:
        nonlocal at_work, most
        with lock:
            at_work += 1
            most = max(most, at_work)
        both.wait(60)
        time.sleep(0.02)  # a third would come, if it could
        with lock:
            at_work -= 1
        return b""

    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    hasher = Hasher(CHEAP)
    monkeypatch.setattr(hashing, "hash_secret", slow)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: hasher.pretend(WRONG), range(8)))
    assert most == 2


def test_any_argon2_of_the_field_reads_our_hashes(hasher: Hasher) -> None:
    assert PasswordHasher().verify(hasher.hash(RIGHT), PASSWORD)
