"""What an SMSC brings that is no receipt: an SMS that somebody wrote to a number of ours."""

from collections.abc import Callable, Mapping

from sms import gsm7
from sms.provider import Received
from sms.smpp import Delivery

# Fields of a deliver_sm (SMPP 3.4, 5.2 and 5.3).
WITH_HEADER = 0x40  # esm_class: the text begins with a user data header
MESSAGE_PAYLOAD = 0x0424
SAR_TOTAL_SEGMENTS = 0x020E
BEGINNINGS = {1: "+", 2: "0"}  # by type of number: international, national

# Elements of a user data header that say how many SMS there are (TS 23.040, 9.2.3.24).
PARTS_AT = {0x00: 1, 0x08: 2}

ALPHABETS: Mapping[int, Callable[[bytes], str]] = {
    0x00: gsm7.decode,
    0x01: lambda octets: octets.decode("ascii", "replace"),
    0x03: lambda octets: octets.decode("latin-1"),
    0x08: lambda octets: octets.decode("utf-16-be", "replace"),
}
"""How a text is written, by data_coding."""


def read_message(provider: str, delivery: Delivery) -> Received:
    """Read an SMS; one of several, or in an alphabet of another kind, counts as one without text.

    SMPP has no name for it.
    """
    return Received(
        provider=provider,
        provider_id=None,
        called=_number(*delivery.called),
        sender=_number(*delivery.sender),
        text=_text(delivery),
    )


def _number(kind: int, address: str) -> str:
    """Write a number so that its beginning says what it is, if the SMSC did."""
    beginning = BEGINNINGS.get(kind)
    return address if beginning is None else beginning + address.lstrip("+0")


def _text(delivery: Delivery) -> str:
    octets = delivery.text or delivery.options.get(MESSAGE_PAYLOAD, b"")
    parts = int.from_bytes(delivery.options.get(SAR_TOTAL_SEGMENTS, b""))
    if delivery.esm_class & WITH_HEADER:
        end = 1 + int.from_bytes(octets[:1])
        parts = max(parts, _parts(octets[1:end]))
        octets = octets[end:]
    decode = ALPHABETS.get(delivery.data_coding)
    return "" if decode is None or parts > 1 else decode(octets)


def _parts(header: bytes) -> int:
    """Say how many SMS a user data header speaks of; 0 if of none."""
    while len(header) >= 2:
        element, value, header = header[0], header[2 : 2 + header[1]], header[2 + header[1] :]
        at = PARTS_AT.get(element)
        if at is not None and at < len(value):
            return value[at]
    return 0
