"""How systems before this one stored passwords and codes, so that these can be taken over (R02).

A digest is never stored as it came: `hashing` wraps it at once, and the secret's first use replaces
it. What a digest may cost is bounded: whoever writes the file or calls the API could ask for years.
"""

import base64
import binascii
import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Self

from shared.errors import StoreError

MAX_ROUNDS = 1_000_000  # of PBKDF2: half a second
MAX_SALT_BYTES = 64


class BadDigestError(StoreError):
    """Not a digest of that scheme, or outside our limits: why, without quoting it."""


class Scheme(StrEnum):
    """What an earlier system did to a secret."""

    MD5 = "md5"
    MD5_SALT_FIRST = "md5-salt-first"
    MD5_SALT_LAST = "md5-salt-last"
    SHA1 = "sha1"
    SHA1_SALT_FIRST = "sha1-salt-first"
    SHA1_SALT_LAST = "sha1-salt-last"
    SHA256 = "sha256"
    SHA256_SALT_FIRST = "sha256-salt-first"
    SHA256_SALT_LAST = "sha256-salt-last"
    PBKDF2_SHA256 = "pbkdf2-sha256"


@dataclass(frozen=True)
class Recipe:
    """A scheme with all that it needs besides the secret."""

    scheme: Scheme
    salt: bytes = field(default=b"", repr=False)
    rounds: int = 1

    def digest(self, secret: bytes) -> bytes:
        """Do what the earlier system did."""
        return _SCHEMES[self.scheme].digest(secret, self.salt, self.rounds)

    def __str__(self) -> str:
        """Give the text that `read` reads; it has no `$`."""
        return f"{self.scheme}:{self.rounds}:{self.salt.hex()}"

    @classmethod
    def read(cls, text: str) -> Self:
        """Read a stored recipe; BadDigestError if it is none, or would cost too much."""
        parts = re.fullmatch(r"([a-z0-9-]{1,32}):([0-9]{1,9}):([0-9a-f]*)", text, re.ASCII)
        if parts is None or parts[1] not in _SCHEMES:
            raise BadDigestError("recette inconnue")
        try:
            salt = bytes.fromhex(parts[3])
        except ValueError:
            raise BadDigestError("recette inconnue") from None
        return cls(*_bounded(Scheme(parts[1]), salt, int(parts[2])))


@dataclass(frozen=True)
class Digest:
    """What an earlier system stored of one secret."""

    recipe: Recipe
    value: bytes = field(repr=False)


def parse(scheme: str, text: str) -> Digest:
    """Read a digest as the earlier system wrote it; BadDigestError says why not, in French.

    Hexadecimal; `salt$hexadecimal` where there is a salt, whose bytes are its UTF-8; for PBKDF2
    `$pbkdf2-sha256$i=29000$salt$digest` in base64, as PHC strings and passlib write it.
    """
    if scheme not in _SCHEMES:
        raise BadDigestError("procédé inconnu")
    return _SCHEMES[scheme].parse(Scheme(scheme), text)


@dataclass(frozen=True)
class _Kind:
    """One line of the table of schemes."""

    parse: Callable[[Scheme, str], Digest]
    digest: Callable[[bytes, bytes, int], bytes]  # of secret, salt and rounds
    size: int  # of a digest, in bytes


def _bounded(scheme: Scheme, salt: bytes, rounds: int) -> tuple[Scheme, bytes, int]:
    if len(salt) > MAX_SALT_BYTES:
        raise BadDigestError(f"sel de plus de {MAX_SALT_BYTES} octets")
    if not 0 < rounds <= MAX_ROUNDS:
        raise BadDigestError(f"de 1 à {MAX_ROUNDS} itérations attendues")
    return scheme, salt, rounds


def _parse_plain(scheme: Scheme, text: str) -> Digest:
    return Digest(Recipe(scheme), _hexadecimal(scheme, text))


def _parse_salted(scheme: Scheme, text: str) -> Digest:
    salt, dollar, digest = text.rpartition("$")
    if not (dollar and salt):
        raise BadDigestError("sel$empreinte attendu")
    return Digest(
        Recipe(*_bounded(scheme, salt.encode(), 1)),
        _hexadecimal(scheme, digest),
    )


def _parse_pbkdf2(scheme: Scheme, text: str) -> Digest:
    parts = re.fullmatch(
        r"\$pbkdf2-sha256\$(?:i=)?([0-9]{1,9})(?:,l=32)?\$([\w+/.]*)\$([\w+/.]*)", text, re.ASCII
    )
    if parts is None:
        raise BadDigestError("$pbkdf2-sha256$i=…$sel$empreinte attendu")
    recipe = Recipe(*_bounded(scheme, _base64(parts[2]), int(parts[1])))
    return Digest(recipe, _sized(scheme, _base64(parts[3])))


def _hexadecimal(scheme: Scheme, text: str) -> bytes:
    if re.fullmatch(r"[0-9A-Fa-f]*", text) is None or len(text) % 2:
        raise BadDigestError("empreinte en hexadécimal attendue")
    return _sized(scheme, bytes.fromhex(text))


def _base64(text: str) -> bytes:
    """Read base64 without padding; passlib writes `.` for `+`."""
    try:
        padded = text.replace(".", "+") + "=" * (-len(text) % 4)
        return base64.b64decode(padded, validate=True)
    except binascii.Error:
        raise BadDigestError("base64 attendu") from None


def _sized(scheme: Scheme, digest: bytes) -> bytes:
    if len(digest) != _SCHEMES[scheme].size:
        raise BadDigestError(f"empreinte de {_SCHEMES[scheme].size} octets attendue")
    return digest


def _md5(data: bytes) -> bytes:
    return hashlib.md5(data, usedforsecurity=False).digest()


def _sha1(data: bytes) -> bytes:
    return hashlib.sha1(data, usedforsecurity=False).digest()


def _sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def _pbkdf2(secret: bytes, salt: bytes, rounds: int) -> bytes:
    return hashlib.pbkdf2_hmac("sha256", secret, salt, rounds)


_SCHEMES: Mapping[str, _Kind] = {
    Scheme.MD5: _Kind(_parse_plain, lambda secret, _s, _r: _md5(secret), 16),
    Scheme.MD5_SALT_FIRST: _Kind(_parse_salted, lambda secret, salt, _: _md5(salt + secret), 16),
    Scheme.MD5_SALT_LAST: _Kind(_parse_salted, lambda secret, salt, _: _md5(secret + salt), 16),
    Scheme.SHA1: _Kind(_parse_plain, lambda secret, _s, _r: _sha1(secret), 20),
    Scheme.SHA1_SALT_FIRST: _Kind(_parse_salted, lambda secret, salt, _: _sha1(salt + secret), 20),
    Scheme.SHA1_SALT_LAST: _Kind(_parse_salted, lambda secret, salt, _: _sha1(secret + salt), 20),
    Scheme.SHA256: _Kind(_parse_plain, lambda secret, _s, _r: _sha256(secret), 32),
    Scheme.SHA256_SALT_FIRST: _Kind(
        _parse_salted, lambda secret, salt, _: _sha256(salt + secret), 32
    ),
    Scheme.SHA256_SALT_LAST: _Kind(
        _parse_salted, lambda secret, salt, _: _sha256(secret + salt), 32
    ),
    Scheme.PBKDF2_SHA256: _Kind(_parse_pbkdf2, _pbkdf2, 32),
}
