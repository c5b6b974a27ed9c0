"""Argon2id hashes of passwords and codes (D13), one computation for every login attempt (D07).

What is stored is a PHC string. One that stands on a digest made by an earlier system has the recipe
of that digest before it: Argon2id was computed over the digest, not over the secret.
"""

import base64
import hmac
import os
import threading
from collections.abc import Sequence

from argon2 import PasswordHasher as Argon2Hasher
from argon2 import Type, extract_parameters
from argon2.exceptions import HashingError, InvalidHashError
from argon2.low_level import hash_secret

from shared import legacy
from shared.errors import StoreError
from shared.legacy import BadDigestError, Digest, Recipe
from shared.rules import Argon2
from shared.secret import Secret

MAX_MEMORY_KIB = 65_536
MAX_PASSES = 10
MAX_LANES = 4
MAX_HASH_LENGTH = 512
MIN_HASH_BYTES = 32
ARGON2ID = "argon2id"

Foreign = Digest | str
"""What another system keeps of a secret: a digest, or an Argon2id PHC string of its own costs."""


class HashRefusedError(StoreError):
    """A stored hash is damaged, or would cost more than any of ours: it is not computed."""


def read_foreign(scheme: str, text: str) -> Foreign:
    """Read a hash of another system; BadDigestError for what is none, or costs too much."""
    if scheme != ARGON2ID:
        return legacy.parse(scheme, text)
    try:
        check(text)
        if text.startswith("$") and _salt(text):
            return text
    except (HashRefusedError, ValueError):
        pass
    raise BadDigestError("$argon2id$… attendu, dans nos limites")


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

        And with its recipe. A new salt and today's costs if there is none.
        """
        if other is None:
            return self.hash(secret)
        check(other)
        with self._cores:
            return _compute(secret, other)

    def take_over(self, foreign: Foreign) -> str:
        """Make what another system keeps of a secret ours, before the secret is ever used."""
        if isinstance(foreign, str):
            return foreign
        with self._cores:
            return f"{foreign.recipe}{self._argon2.hash(foreign.value)}"

    def match(self, stored: Sequence[str], secret: Secret) -> str | None:
        """Give the stored hash that the secret has, by one computation, or None.

        All of them have the same salt and costs. HashRefusedError before any memory is taken for
        a bad one.
        """
        for one in stored:
            check(one)
        with self._cores:
            computed = _compute(secret, stored[0])
        return computed if any(hmac.compare_digest(one, computed) for one in stored) else None

    def pretend(self, secret: Secret) -> None:
        """Spend what a comparison costs, for an attempt that has nothing to compare (D07)."""
        with self._cores:
            _compute(secret, self._dummy)

    def outdated(self, stored: str) -> bool:
        """Say whether a hash was made at other costs than today's, or of an earlier digest."""
        recipe, phc = _parts(stored)
        return bool(recipe) or self._argon2.check_needs_rehash(phc)


def check(stored: str) -> None:
    """Raise HashRefusedError for what is no hash of ours, or costs too much to be computed."""
    recipe, phc = _parts(stored[: MAX_HASH_LENGTH + 1])
    try:
        costs = extract_parameters(phc)
        if recipe:
            Recipe.read(recipe)
    except (InvalidHashError, BadDigestError):
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


def _compute(secret: Secret, like: str) -> str:
    """Give the hash of the secret with the recipe, salt and costs of another."""
    recipe, phc = _parts(like)
    plain = secret.reveal().encode()
    costs = extract_parameters(phc)
    try:
        hashed = hash_secret(
            Recipe.read(recipe).digest(plain) if recipe else plain,
            _salt(phc),
            costs.time_cost,
            costs.memory_cost,
            costs.parallelism,
            costs.hash_len,
            Type.ID,
            costs.version,
        )
    except (HashingError, ValueError):
        raise HashRefusedError("Argon2 could not compute it") from None
    return recipe + hashed.decode()


def _parts(stored: str) -> tuple[str, str]:
    """Give the recipe, empty as a rule, and the PHC string."""
    recipe, dollar, rest = stored.partition("$")
    return recipe, dollar + rest


def _salt(phc: str) -> bytes:
    encoded = phc.split("$")[-2]
    return base64.b64decode(encoded + "=" * (-len(encoded) % 4), validate=True)
