"""Argon2id hashes of passwords and codes (D13), one computation for every login attempt (D07)."""

import base64
import hmac
import os
import threading
from collections.abc import Sequence

from argon2 import PasswordHasher as Argon2Hasher
from argon2 import Type, extract_parameters
from argon2.exceptions import HashingError, InvalidHashError
from argon2.low_level import hash_secret

from shared.errors import StoreError
from shared.rules import Argon2
from shared.secret import Secret

MAX_MEMORY_KIB = 65_536
MAX_PASSES = 10
MAX_LANES = 4
MAX_HASH_LENGTH = 512
MIN_HASH_BYTES = 32


class HashRefusedError(StoreError):
    """A stored hash is damaged, or would cost more than any of ours: it is not computed."""


class Hasher:
    """Hashes and compares; at most one computation a core at a time."""

    def __init__(self, costs: Argon2) -> None:
        self._argon2 = Argon2Hasher(
            time_cost=costs.passes, memory_cost=costs.memory_kib, parallelism=costs.lanes
        )
        self._cores = threading.BoundedSemaphore(os.cpu_count() or 1)
        self._dummy = self._argon2.hash(os.urandom(16))

    def hash(self, secret: Secret) -> str:
        """Give the PHC string of a new salted hash."""
        with self._cores:
            return self._argon2.hash(secret.reveal())

    def hash_like(self, secret: Secret, other: str | None) -> str:
        """Hash with the salt and costs of a stored hash, so that one computation tests for both.

        A new salt and today's costs if there is none.
        """
        if other is None:
            return self.hash(secret)
        _check_costs(other)
        with self._cores:
            return _compute(secret, other)

    def match(self, stored: Sequence[str], secret: Secret) -> str | None:
        """Give the stored hash that the secret has, by one computation, or None.

        All of them have the same salt and costs. HashRefusedError before any memory is taken for
        a bad one.
        """
        for phc in stored:
            _check_costs(phc)
        with self._cores:
            computed = _compute(secret, stored[0])
        return computed if any(hmac.compare_digest(phc, computed) for phc in stored) else None

    def pretend(self, secret: Secret) -> None:
        """Spend what a comparison costs, for an attempt that has nothing to compare (D07)."""
        with self._cores:
            _compute(secret, self._dummy)

    def outdated(self, stored: str) -> bool:
        """Say whether a hash was made at other costs than today's."""
        return self._argon2.check_needs_rehash(stored)


def _compute(secret: Secret, like: str) -> str:
    """Give the PHC string of the secret with the salt and costs of another."""
    costs = extract_parameters(like)
    try:
        return hash_secret(
            secret.reveal().encode(),
            _salt(like),
            costs.time_cost,
            costs.memory_cost,
            costs.parallelism,
            costs.hash_len,
            Type.ID,
            costs.version,
        ).decode()
    except (HashingError, ValueError):
        raise HashRefusedError("Argon2 could not compute it") from None


def _salt(phc: str) -> bytes:
    encoded = phc.split("$")[-2]
    return base64.b64decode(encoded + "=" * (-len(encoded) % 4), validate=True)


def _check_costs(stored: str) -> None:
    try:
        costs = extract_parameters(stored[: MAX_HASH_LENGTH + 1])
    except InvalidHashError:
        raise HashRefusedError("not an Argon2 hash") from None
    if (
        len(stored) > MAX_HASH_LENGTH
        or costs.type is not Type.ID
        or costs.hash_len < MIN_HASH_BYTES
        or not 0 < costs.memory_cost <= MAX_MEMORY_KIB
        or not 0 < costs.time_cost <= MAX_PASSES
        or not 0 < costs.parallelism <= MAX_LANES
    ):
        raise HashRefusedError("an Argon2 hash outside our limits")
