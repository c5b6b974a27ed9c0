"""Argon2id hashes of passwords and codes (D13), one computation for every login attempt (D07)."""

import os
import threading

from argon2 import PasswordHasher as Argon2Hasher
from argon2 import Type, extract_parameters
from argon2.exceptions import InvalidHashError, VerificationError, VerifyMismatchError
from argon2.low_level import verify_secret

from shared.errors import StoreError
from shared.rules import Argon2
from shared.secret import Secret

MAX_MEMORY_KIB = 65_536
MAX_PASSES = 10
MAX_LANES = 4
MAX_HASH_LENGTH = 512


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

    def matches(self, stored: str, secret: Secret) -> bool:
        """Compare with a stored hash; HashRefusedError before any memory is taken for a bad one."""
        _check_costs(stored)
        return self._compare(stored, secret)

    def pretend(self, secret: Secret) -> None:
        """Spend what a comparison costs, for an attempt that has nothing to compare (D07)."""
        self._compare(self._dummy, secret)

    def outdated(self, stored: str) -> bool:
        """Say whether a hash was made at other costs than today's."""
        return self._argon2.check_needs_rehash(stored)

    def _compare(self, stored: str, secret: Secret) -> bool:
        with self._cores:
            try:
                return verify_secret(stored.encode(), secret.reveal().encode(), Type.ID)
            except VerifyMismatchError:
                return False
            except VerificationError:
                raise HashRefusedError("Argon2 could not compute it") from None


def _check_costs(stored: str) -> None:
    try:
        costs = extract_parameters(stored[: MAX_HASH_LENGTH + 1])
    except InvalidHashError:
        raise HashRefusedError("not an Argon2 hash") from None
    if (
        len(stored) > MAX_HASH_LENGTH
        or costs.type is not Type.ID
        or costs.memory_cost > MAX_MEMORY_KIB
        or costs.time_cost > MAX_PASSES
        or costs.parallelism > MAX_LANES
    ):
        raise HashRefusedError("an Argon2 hash beyond our limits")
