"""GSM-7 and segments by the tables of 3GPP TS 23.038 and 23.040; test_segments.py has a judge."""

import pytest

from sms import gsm7
from sms.gsm7 import SEPTETS, TextError

CODES = {"@": 0x00, "é": 0x05, "\n": 0x0A, "Δ": 0x10, " ": 0x20, "A": 0x41, "¿": 0x60, "à": 0x7F}


def test_the_alphabet_is_that_of_the_standard() -> None:
    """127 letters beside the escape, 10 more of two septets."""
    sizes = [len(septets) for septets in SEPTETS.values()]
    assert (sizes.count(1), sizes.count(2), len(sizes)) == (127, 10, 137)
    assert all(0 <= code < 128 for septets in SEPTETS.values() for code in septets)
    assert len(set(SEPTETS.values())) == 137
    assert {letter: SEPTETS[letter][0] for letter in CODES} == CODES
    assert SEPTETS["€"] == b"\x1b\x65"
    assert SEPTETS.keys().isdisjoint("çêâîôûëïœ«»\x1b")


@pytest.mark.parametrize(
    ("text", "septets"), [("", 0), ("à", 1), ("€", 2), ("a{b}", 6), ("Æ^", 3)], ids=repr
)
def test_septets(text: str, septets: int) -> None:
    assert len(gsm7.encode(text)) == septets


@pytest.mark.parametrize("text", ["ça", "fête", "\x1b", "😀", "e\u0301"], ids=ascii)
def test_what_is_not_gsm7_is_refused_and_not_quoted(text: str) -> None:
    for refuse in (gsm7.encode, gsm7.segments, lambda text: gsm7.payloads(text, 0)):
        with pytest.raises(TextError) as raised:
            refuse(text)
        assert str(raised.value) == "not GSM-7"


def test_what_is_foreign_is_named() -> None:
    assert gsm7.foreign("Être, ça, être") == ["Ê", "ç", "ê"]
    assert gsm7.foreign("Déjà €") == []


SEGMENTS = {
    "nothing": ("", [0]),
    "the longest alone": ("a" * 160, [160]),
    "one more": ("a" * 161, [153, 8]),
    "two full ones": ("a" * 306, [153, 153]),
    "an escape over 160": ("a" * 159 + "€", [153, 7]),
    "an escape in the last two of the first": ("a" * 151 + "€" + "a" * 9, [152, 9]),
    "an escape at the border": ("a" * 152 + "€" + "a" * 9, [152, 10]),
    "an escape after the border": ("a" * 153 + "€" + "a" * 9, [153, 10]),
    "escapes only": ("€" * 81, [76, 5]),
}


@pytest.mark.parametrize(("text", "letters"), SEGMENTS.values(), ids=SEGMENTS)
def test_segments(text: str, letters: list[int]) -> None:
    segments = gsm7.segments(text)
    assert [len(segment) for segment in segments] == letters
    assert "".join(segments) == text


def test_one_sms_has_no_header() -> None:
    assert gsm7.payloads("é€", 7) == [b"\x05\x1b\x65"]


def test_several_are_joined_by_their_header() -> None:
    """TS 23.040, 9.2.3.24.1: 5 octets, element 0 of 3: reference, how many, which."""
    assert gsm7.payloads("a" * 152 + "€b", 200) == [b"a" * 152 + b"\x1b\x65b"]
    assert gsm7.payloads("a" * 160 + "€", 200) == [
        b"\x05\x00\x03\xc8\x02\x01" + b"a" * 153,
        b"\x05\x00\x03\xc8\x02\x02" + b"a" * 7 + b"\x1b\x65",
    ]


def test_more_than_255_can_not_be_joined() -> None:
    assert len(gsm7.payloads("a" * 255 * 153, 0)) == 255
    with pytest.raises(TextError, match="too long"):
        gsm7.payloads("a" * (255 * 153 + 1), 0)


NEAREST = {
    "as they are": ("Déjà là, où ? Ça coûte 5 €", "Déjà là, où ? Ça coute 5 €"),
    "no cedilla": ("garçon", "garcon"),
    "hats and dots": ("êâîôûëïÿ ÊÂÎÔÛËÏŸ", "eaioueiy EAIOUEIY"),
    "capitals": ("ÀÈÙ Ç", "AEU Ç"),
    "ligatures": ("cœur, Œuvre, Ægir", "coeur, OEuvre, Ægir"),
    "quotation marks": ("« l’été » “a” ‘b’", '" l\'été " "a" \'b\''),
    "dashes": ("2021‑2022 – fin — …", "2021-2022 - fin - ..."),
    "spaces": ("10\u00a0000\u202f€\tnet", "10 000 € net"),
    "two code points": ("e\u0301te\u0302", "éte"),
    "names of Europe": ("Łukasz Dvořák, Nuñez, Şahin", "Lukasz Dvorak, Nuñez, Sahin"),
    "other scripts": ("Жан 李", "??? ?"),
    "a picture, a control": ("😀\x00\x1b", "???"),
}


@pytest.mark.parametrize(("text", "written"), NEAREST.values(), ids=NEAREST)
def test_the_nearest_letters(text: str, written: str) -> None:
    assert gsm7.transliterate(text) == written
