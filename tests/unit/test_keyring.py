"""The key ring: what it seals opens only where it belongs (D13)."""

import json
import stat
from dataclasses import replace
from pathlib import Path

import pytest

from shared.errors import SealError, SettingsError
from shared.keyring import KeyRing

KEY = "A" * 43 + "="  # 32 bytes in base64
SHORT_KEY = "A" * 22 + "=="
BINDING = ("credential", "account-1", "id-1", "password")
PLAIN = b"a very plain text"


def test_created_keys_load_again(tmp_path: Path) -> None:
    path = tmp_path / "new.json"
    assert KeyRing.create(path) == KeyRing.load(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_two_key_rings_have_no_key_in_common(tmp_path: Path) -> None:
    first, second = KeyRing.create(tmp_path / "1"), KeyRing.create(tmp_path / "2")
    keys = {*first.sealing.values(), first.indexing, first.pseudonyms}
    others = {*second.sealing.values(), second.indexing, second.pseudonyms}
    assert len(keys | others) == 6


def test_existing_keys_are_never_replaced(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    keys = KeyRing.create(path)
    with pytest.raises(SettingsError, match=r"keys\.json: existe déjà"):
        KeyRing.create(path)
    assert KeyRing.load(path) == keys


def test_no_key_shows(keys: KeyRing) -> None:
    assert repr(keys) == "KeyRing(current=1)"


def _ring(**changes: object) -> str:
    ring = {"current": 1, "sealing": {"1": KEY}, "indexing": KEY, "pseudonyms": KEY}
    return json.dumps({**ring, **changes})


DAMAGED = {
    "empty": "",
    "not JSON": "{",
    "a list": "[]",
    "a number": "1",
    "no current": json.dumps({"sealing": {"1": KEY}, "indexing": KEY, "pseudonyms": KEY}),
    "current is no number": _ring(current="one"),
    "pseudonyms of no day": _ring(pseudonyms_since="yesterday"),
    "pseudonyms of no zone": _ring(pseudonyms_since="2021-11-01T00:00:00"),
    "current is null": _ring(current=None),
    "current has no key": _ring(current=2),
    "current is too large": _ring(current=65_536, sealing={"65536": KEY}),
    "current is negative": _ring(current=-1, sealing={"-1": KEY}),
    "sealing is a list": _ring(sealing=[KEY]),
    "a key is not base64": _ring(indexing="é" * 44),
    "a key is short": _ring(pseudonyms=SHORT_KEY),
    "a key is a number": _ring(indexing=5),
    "latin-1": "\xff",
}


@pytest.mark.parametrize("text", DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_file_is_refused_on_one_line(tmp_path: Path, text: str) -> None:
    path = tmp_path / "damaged.json"
    path.write_bytes(text.encode("latin-1"))
    path.chmod(0o600)
    with pytest.raises(SettingsError) as raised:
        KeyRing.load(path)
    message = str(raised.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    assert KEY not in message


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o660, 0o644], ids=oct)
def test_keys_that_others_may_read_are_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "open.json"
    KeyRing.create(path)
    path.chmod(mode)
    with pytest.raises(SettingsError, match="chmod 600"):
        KeyRing.load(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"none\.json: ne peut pas être lu : No such file"):
        KeyRing.load(tmp_path / "none.json")


def test_sealed_values_open_again(keys: KeyRing) -> None:
    sealed = keys.seal(PLAIN, *BINDING)
    assert keys.open(sealed, *BINDING) == PLAIN
    assert PLAIN not in sealed


def test_equal_values_do_not_seal_alike(keys: KeyRing) -> None:
    assert keys.seal(PLAIN, *BINDING) != keys.seal(PLAIN, *BINDING)


OTHER_BINDINGS = {
    "another account": ("credential", "account-2", "id-1", "password"),
    "another row": ("credential", "account-1", "id-2", "password"),
    "another kind": ("credential", "account-1", "id-1", "code"),
    "another table": ("person", "account-1", "id-1", "password"),
    "parts joined": ("credential", "account-1id-1", "password"),
    "parts moved": ("credential", "account-1", "id-1password", ""),
    "a part less": ("credential", "account-1", "id-1"),
    "nothing": (),
}


@pytest.mark.parametrize("binding", OTHER_BINDINGS.values(), ids=OTHER_BINDINGS)
def test_a_value_opens_only_where_it_was_sealed(keys: KeyRing, binding: tuple[str, ...]) -> None:
    with pytest.raises(SealError):
        keys.open(keys.seal(PLAIN, *BINDING), *binding)


def test_any_altered_byte_is_noticed(keys: KeyRing) -> None:
    sealed = keys.seal(PLAIN, *BINDING)
    for place in range(len(sealed)):
        altered = bytearray(sealed)
        altered[place] ^= 1
        with pytest.raises(SealError):
            keys.open(bytes(altered), *BINDING)


def test_a_cut_value_is_noticed(keys: KeyRing) -> None:
    sealed = keys.seal(PLAIN, *BINDING)
    for length in range(len(sealed)):
        with pytest.raises(SealError):
            keys.open(sealed[:length], *BINDING)


def test_other_keys_open_nothing(keys: KeyRing, tmp_path: Path) -> None:
    others = KeyRing.create(tmp_path / "others.json")
    with pytest.raises(SealError):
        others.open(keys.seal(PLAIN, *BINDING), *BINDING)


def test_a_new_key_leaves_old_values_readable(keys: KeyRing) -> None:
    old = keys.seal(PLAIN, *BINDING)
    turned = replace(keys, current=2, sealing={**keys.sealing, 2: b"k" * 32})
    assert turned.open(old, *BINDING) == PLAIN
    new = turned.seal(PLAIN, *BINDING)
    assert turned.open(new, *BINDING) == PLAIN
    with pytest.raises(SealError, match="not in the key ring"):
        keys.open(new, *BINDING)


def test_an_index_is_the_same_for_the_same_value_only(keys: KeyRing, tmp_path: Path) -> None:
    index = keys.index("phone", "+33612345678")
    assert len(index) == 32
    assert index == keys.index("phone", "+33612345678")
    others = KeyRing.create(tmp_path / "others.json")
    assert index not in {
        keys.index("phone", "+33612345679"),
        keys.index("caller", "+33612345678"),
        keys.index("phone+", "33612345678"),
        others.index("phone", "+33612345678"),
    }


def test_a_pseudonym_is_short_and_keyed(keys: KeyRing, tmp_path: Path) -> None:
    others = KeyRing.create(tmp_path / "others.json")
    pseudonym = keys.pseudonym("75/0123456")
    assert pseudonym == keys.pseudonym("75/0123456")
    assert len(bytes.fromhex(pseudonym)) == 8
    assert pseudonym not in {others.pseudonym("75/0123456"), keys.pseudonym("75/0123457")}
