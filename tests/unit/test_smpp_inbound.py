"""What people's messages look like when an SMSC brings them (SMPP 3.4; TS 23.038, 23.040)."""

import pytest

from sms import gsm7
from sms.providers.smpp_inbound import MESSAGE_PAYLOAD, read_message
from sms.smpp import Delivery


def text(octets: bytes, coding: int = 0, esm_class: int = 0, **options: bytes) -> str:
    tags = {"payload": MESSAGE_PAYLOAD, "segments": 0x020E}
    tlvs = {tags[name]: value for name, value in options.items()}
    delivery = Delivery(esm_class, octets, tlvs, coding, (1, "33612345678"), (3, "36180"))
    return read_message("smpp", delivery).text


ALPHABETS = {
    "GSM-7": (0x00, gsm7.encode("Arrété € [à]"), "Arrété € [à]"),
    "ASCII": (0x01, b"STOP", "STOP"),
    "Latin-1": (0x03, "arrêté".encode("latin-1"), "arrêté"),
    "GSM-7 of a class": (0x11, b"STOP", "STOP"),
    "GSM-7 of a class, the old way": (0xF1, b"STOP", "STOP"),
    "UCS-2": (0x08, "STOP 😀".encode("utf-16-be"), "STOP 😀"),
    "UCS-2 cut short": (0x08, b"\0S\0T\0O\0P\0", "STOP\ufffd"),
    "binary": (0x04, b"STOP", ""),
    "unheard of": (0xF5, b"STOP", ""),
}


@pytest.mark.parametrize(("coding", "octets", "said"), ALPHABETS.values(), ids=ALPHABETS)
def test_alphabets(coding: int, octets: bytes, said: str) -> None:
    assert text(octets, coding) == said


def test_septets_that_are_no_letter() -> None:
    assert gsm7.decode(b"A\x1b\x01\x80B\x1b") == "A??B?"


EIGHT_BIT, SIXTEEN_BIT = b"\5\0\3\7%c\1", b"\6\x08\4\0\7%c\1"
HEADERS = {
    "the only one": (EIGHT_BIT % 1, "STOP"),
    "the first of two": (EIGHT_BIT % 2, "STOP"),
    "the first of two, by a longer reference": (SIXTEEN_BIT % 2, "STOP"),
    "of something else": (b"\4\x24\2\1\2", "STOP"),
    "parts after something else": (b"\x09\x24\2\1\2\0\3\7\2\1", "STOP"),
    "empty": (b"\0", "STOP"),
    "parts that it lacks": (b"\2\0\3", "STOP"),
}


@pytest.mark.parametrize(("header", "said"), HEADERS.values(), ids=HEADERS)
def test_each_part_of_a_message_is_read_by_itself(header: bytes, said: str) -> None:
    """R24: whoever writes much, or with an emoji, and then STOP, is heard."""
    assert text(header + b"STOP", esm_class=0x40) == said


@pytest.mark.parametrize("header", [b"", b"\xff", b"\xffSTOP", b"\5\0"], ids=ascii)
def test_a_header_longer_than_the_message_leaves_no_text(header: bytes) -> None:
    assert text(header, esm_class=0x40) == ""


def test_parts_by_parameters() -> None:
    assert text(b"STOP", segments=b"\2") == "STOP"
    assert text(b"STOP", segments=b"\1") == "STOP"


def test_a_text_beside_the_message() -> None:
    assert text(b"", payload=b"STOP") == "STOP"
    assert text(b"", payload=EIGHT_BIT % 1 + b"STOP", esm_class=0x40) == "STOP"


NUMBERS = {
    "international": (1, "33612345678", "+33612345678"),
    "international with a +": (1, "+33612345678", "+33612345678"),
    "international as dialled": (1, "0033612345678", "+33612345678"),
    "national": (2, "0612345678", "0612345678"),
    "national without its zero": (2, "612345678", "0612345678"),
    "not said": (0, "33612345678", "33612345678"),
    "a name": (5, "Caf", "Caf"),
}


@pytest.mark.parametrize(("kind", "address", "written"), NUMBERS.values(), ids=NUMBERS)
def test_how_a_number_is_written(kind: int, address: str, written: str) -> None:
    delivery = Delivery(0, b"STOP", {}, 0, (kind, address), (3, "36180"))
    read = read_message("smpp", delivery)
    assert (read.sender, read.called, read.provider_id) == (written, "36180", None)
    assert address not in repr(delivery)
