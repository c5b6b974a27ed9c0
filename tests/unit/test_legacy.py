"""Digests of earlier systems: each scheme against published vectors, and those that are refused."""

import base64
import time

import pytest

from shared.hashing import Hasher, HashRefusedError, read_foreign
from shared.legacy import MAX_ROUNDS, BadDigestError, Recipe, Scheme, parse
from shared.secret import Secret
from tests.store import CHEAP

# RFC 1321, FIPS 180-4: digests of « abc », which a salt and a secret may make together
MD5 = "900150983cd24fb0d6963f7d28e17f72"
SHA1 = "a9993e364706816aba3e25717850c26c9cd0d89d"
SHA256 = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"

# RFC 7914, section 11: « Password », « NaCl », 80,000 rounds; the first 32 bytes
PBKDF2 = bytes.fromhex("4ddcd8f60b98be21830cee5ef22701f9641a4418d04c0414aeff08876b34ab56")


def b64(data: bytes, plus: str = "+") -> str:
    return base64.b64encode(data).decode().rstrip("=").replace("+", plus)


VECTORS = {
    "md5": (Scheme.MD5, MD5, "abc"),
    "md5, salt first": (Scheme.MD5_SALT_FIRST, f"ab${MD5}", "c"),
    "md5, salt last": (Scheme.MD5_SALT_LAST, f"c${MD5}", "ab"),
    "sha1": (Scheme.SHA1, SHA1, "abc"),
    "sha1, in capitals": (Scheme.SHA1, SHA1.upper(), "abc"),
    "sha1, salt first": (Scheme.SHA1_SALT_FIRST, f"ab${SHA1}", "c"),
    "sha1, salt last": (Scheme.SHA1_SALT_LAST, f"c${SHA1}", "ab"),
    "sha256": (Scheme.SHA256, SHA256, "abc"),
    "sha256, salt first": (Scheme.SHA256_SALT_FIRST, f"a${SHA256}", "bc"),
    "sha256, salt last": (Scheme.SHA256_SALT_LAST, f"bc${SHA256}", "a"),
    "pbkdf2, PHC": (
        Scheme.PBKDF2_SHA256,
        f"$pbkdf2-sha256$i=80000$TmFDbA${b64(PBKDF2)}",
        "Password",
    ),
    "pbkdf2, passlib": (
        Scheme.PBKDF2_SHA256,
        f"$pbkdf2-sha256$80000$TmFDbA${b64(PBKDF2, '.')}",
        "Password",
    ),
}


@pytest.mark.parametrize(("scheme", "text", "secret"), VECTORS.values(), ids=VECTORS)
def test_a_digest_is_taken_over_and_opens_for_its_secret(
    scheme: Scheme, text: str, secret: str
) -> None:
    hasher = Hasher(CHEAP)
    foreign = read_foreign(scheme, text)
    stored = hasher.take_over(foreign)
    assert hasher.match([stored], Secret(secret)) == stored
    assert hasher.match([stored], Secret(secret + "0")) is None
    assert hasher.match([stored], Secret(text)) is None  # who stole the digest has no secret
    assert text.rpartition("$")[2].lower() not in stored


def test_every_scheme_has_a_vector() -> None:
    assert {scheme for scheme, _, _ in VECTORS.values()} == {*Scheme}


def test_equal_digests_have_different_hashes() -> None:
    hasher, digest = Hasher(CHEAP), parse(Scheme.SHA1, SHA1)
    assert hasher.take_over(digest) != hasher.take_over(digest)


def test_a_new_password_beside_one_taken_over_is_tested_with_it() -> None:
    """D07: one computation."""
    hasher = Hasher(CHEAP)
    stored = hasher.take_over(parse(Scheme.SHA256_SALT_FIRST, f"a${SHA256}"))
    like = hasher.hash_like(Secret("50718264"), stored)
    assert hasher.match([stored, like], Secret("bc")) == stored
    assert hasher.match([stored, like], Secret("50718264")) == like
    assert hasher.match([stored, like], Secret("50718265")) is None


def test_what_was_taken_over_is_outdated() -> None:
    hasher = Hasher(CHEAP)
    assert hasher.outdated(hasher.take_over(parse(Scheme.SHA1, SHA1)))
    assert not hasher.outdated(hasher.hash(Secret("abc")))


def test_an_argon2id_hash_is_kept_as_it_is() -> None:
    hasher = Hasher(CHEAP)
    other = Hasher(CHEAP.model_copy(update={"passes": 3})).hash(Secret("abc"))
    stored = hasher.take_over(read_foreign("argon2id", other))
    assert stored == other
    assert hasher.match([stored], Secret("abc"))
    assert hasher.outdated(stored)


REFUSED = {
    "unknown scheme": ("crypt", "abXXX"),
    "a scheme in capitals": ("SHA1", SHA1),
    "not hexadecimal": ("sha1", "z" * 40),
    "half a byte": ("sha1", SHA1[1:]),
    "another length": ("sha1", MD5),
    "digits of another script": ("sha1", "٣" * 40),
    "empty": ("sha1", ""),
    "no salt": ("sha1-salt-first", SHA1),
    "an empty salt": ("sha1-salt-first", f"${SHA1}"),
    "a long salt": ("sha1-salt-first", f"{'s' * 65}${SHA1}"),
    "a billion rounds": ("pbkdf2-sha256", f"$pbkdf2-sha256$i=1000000000$AAAA${b64(PBKDF2)}"),
    "a round too many": (
        "pbkdf2-sha256",
        f"$pbkdf2-sha256$i={MAX_ROUNDS + 1}$AAAA${b64(PBKDF2)}",
    ),
    "no round": ("pbkdf2-sha256", f"$pbkdf2-sha256$i=0$AAAA${b64(PBKDF2)}"),
    "no base64": ("pbkdf2-sha256", f"$pbkdf2-sha256$i=9$A${b64(PBKDF2)}"),
    "16 bytes": ("pbkdf2-sha256", f"$pbkdf2-sha256$i=9$AAAA${b64(PBKDF2[:16])}"),
    "16 GiB": ("argon2id", f"$argon2id$v=19$m=16777216,t=2,p=1$c29tZXNhbHQ${'A' * 43}"),
    "a billion passes": ("argon2id", f"$argon2id$v=19$m=8,t=1000000000,p=1$c29tZXNhbHQ${'A' * 43}"),
    "argon2i": ("argon2id", f"$argon2i$v=19$m=8,t=1,p=1$c29tZXNhbHQ${'A' * 43}"),
    "a recipe of ours": (
        "argon2id",
        f"md5:1:$argon2id$v=19$m=8,t=1,p=1$c29tZXNhbHQ${'A' * 43}",
    ),
    "a megabyte": ("argon2id", "$argon2id$" + "A" * 1_000_000),
}


@pytest.mark.parametrize(("scheme", "text"), REFUSED.values(), ids=REFUSED)
def test_what_is_no_digest_or_costs_too_much_is_refused(scheme: str, text: str) -> None:
    """Before anything is computed, and without quoting it."""
    start = time.process_time()
    with pytest.raises(BadDigestError) as raised:
        read_foreign(scheme, text)
    assert time.process_time() - start < 0.2
    assert not text or text not in str(raised.value)


STORED = {
    "a billion rounds": "pbkdf2-sha256:999999999:00",
    "unknown": "crypt:1:00",
    "half a byte of salt": "sha1:1:0",
    "a long salt": f"sha1:1:{'00' * 65}",
    "a colon too few": "sha1:1",
    "nonsense": "é",
}


@pytest.mark.parametrize("recipe", STORED.values(), ids=STORED)
def test_a_stored_recipe_that_is_none_of_ours_is_not_computed(recipe: str) -> None:
    stored = recipe + Hasher(CHEAP).hash(Secret("abc"))
    start = time.process_time()
    with pytest.raises(HashRefusedError):
        Hasher(CHEAP).match([stored], Secret("abc"))
    assert time.process_time() - start < 0.2


@pytest.mark.parametrize("recipe", [Recipe(Scheme.MD5), Recipe(Scheme.PBKDF2_SHA256, b"\0$", 9)])
def test_a_recipe_is_read_as_it_was_written(recipe: Recipe) -> None:
    assert Recipe.read(str(recipe)) == recipe
    assert "$" not in str(recipe)
