"""What an SMSC brings that is no receipt: an SMS that somebody wrote to a number of ours."""

from collections.abc import Callable, Mapping

from sms import gsm7
from sms.provider import Received
from sms.smpp import Delivery

# Fields of a deliver_sm (SMPP 3.4, 5.2 and 5.3).
WITH_HEADER = 0x40  # esm_class: the text begins with a user data header
MESSAGE_PAYLOAD = 0x0424
BEGINNINGS = {1: "+", 2: "0"}  # by type of number: international, national

GSM7 = (0x00, *range(0x10, 0x14), *range(0xF0, 0xF4))  # by itself, and with a message class

ALPHABETS: Mapping[int, Callable[[bytes], str]] = {
    **dict.fromkeys(GSM7, gsm7.decode),
    0x01: lambda octets: octets.decode("ascii", "replace"),
    0x03: lambda octets: octets.decode("latin-1"),
    0x08: lambda octets: octets.decode("utf-16-be", "replace"),
}
"""How a text is written, by data_coding."""


def read_message(provider: str, delivery: Delivery) -> Received:
    """Read an SMS; in an alphabet of another kind it counts as one without text.

    Each of several that make a message is read by itself: STOP is heard wherever it stands, unless
    it is cut in two. SMPP has no name for a message.
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
    if delivery.esm_class & WITH_HEADER:
        octets = octets[1 + int.from_bytes(octets[:1]) :]
    decode = ALPHABETS.get(delivery.data_coding)
    return "" if decode is None else decode(octets)
