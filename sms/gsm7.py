"""GSM-7, the alphabet of SMS (3GPP TS 23.038), and how a text becomes one or more (TS 23.040).

Our texts are pure GSM-7 (D14). One that is not is refused: as UCS-2 it would need twice the SMS.
"""

import re
import unicodedata
from collections.abc import Mapping

ALONE = 160  # septets that fit one SMS
PART = 153  # septets of each SMS of several: a header takes the place of the others
MOST_PARTS = 255

_ESCAPE = 0x1B
# A letter stands at the place of its code.
_BASIC = (
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞ\x1bÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?"
    "¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà"
)
_EXTENSION = {
    "\f": 0x0A,
    "^": 0x14,
    "{": 0x28,
    "}": 0x29,
    "\\": 0x2F,
    "[": 0x3C,
    "~": 0x3D,
    "]": 0x3E,
    "|": 0x40,
    "€": 0x65,
}
SEPTETS: Mapping[str, bytes] = {
    letter: bytes([code]) for code, letter in enumerate(_BASIC) if code != _ESCAPE
} | {letter: bytes([_ESCAPE, code]) for letter, code in _EXTENSION.items()}
"""The septets of every letter, an octet for each: one, or an escape and another."""

_LETTERS = {septets: letter for letter, septets in SEPTETS.items()}

_SPELT = {
    **dict.fromkeys("’‘‚′`´", "'"),
    **dict.fromkeys("“”„«»″", '"'),
    **dict.fromkeys("‐‑‒–—−", "-"),
    "œ": "oe",
    "Œ": "OE",
    "ł": "l",
    "Ł": "L",
    "đ": "d",
    "Đ": "D",
    "ı": "i",
    "\t": " ",
}


class TextError(ValueError):
    """No SMS can bring a text: it is not GSM-7, or too long; quotes nothing of it."""


def foreign(text: str) -> list[str]:
    """Give the letters that GSM-7 has not, each once, in order."""
    return sorted(set(text) - SEPTETS.keys())


def encode(text: str) -> bytes:
    """Give the septets, an octet for each, as an SMSC takes them; TextError."""
    try:
        return b"".join([SEPTETS[letter] for letter in text])
    except KeyError:
        raise TextError("not GSM-7") from None


def decode(septets: bytes) -> str:
    """Give the text that somebody sent, an octet for each septet; « ? » is what is no letter."""
    escape = bytes([_ESCAPE])
    units = re.findall(escape + b".|.", septets, re.DOTALL)
    return "".join(_LETTERS.get(unit, "?") for unit in units)


def segments(text: str) -> list[str]:
    """Give what each SMS brings of a text, never half of an escaped letter; TextError."""
    if len(encode(text)) <= ALONE:
        return [text]
    parts = [""]
    room = PART
    for letter in text:
        size = len(SEPTETS[letter])
        if size > room:
            parts.append("")
            room = PART
        parts[-1] += letter
        room -= size
    return parts


def payloads(text: str, reference: int) -> list[bytes]:
    """Give the user data of each SMS, an octet for each septet; TextError.

    Where there are several, each begins with the header by which the telephone joins those of one
    `reference` (0 to 255): TS 23.040, 9.2.3.24.1.
    """
    parts = [encode(segment) for segment in segments(text)]
    if len(parts) == 1:
        return parts
    if len(parts) > MOST_PARTS:
        raise TextError("too long")
    return [
        bytes([5, 0, 3, reference, len(parts), number]) + part
        for number, part in enumerate(parts, 1)
    ]


def transliterate(text: str) -> str:
    """Write a text in GSM-7: ê is e, œ is oe, « is a quotation mark; what has no like is « ? »."""
    return "".join(map(_nearest, unicodedata.normalize("NFC", text)))


def _nearest(letter: str) -> str:
    if letter in SEPTETS:
        return letter
    plain = _SPELT.get(letter, _without_marks(letter))
    return plain if SEPTETS.keys() >= set(plain) else "?"


def _without_marks(letter: str) -> str:
    """Take off what Unicode can: ê is e, … is three dots, a narrow space is a space."""
    parts = unicodedata.normalize("NFKD", letter)
    return "".join(part for part in parts if not unicodedata.combining(part))
