"""The shapes of identifiers and contacts that people key or others send (D01, D08)."""

import re

import phonenumbers

NUMBER = re.compile(r"[0-9]{7}")  # numéro d'allocataire (D01)
PROVISIONAL = re.compile(r"P[0-9]{8}")  # identifiant provisoire (R20)
CAISSE = re.compile(r"(?!20$|64$)(?:0[1-9]|[1-8][0-9]|9[0-5]|2A|2B|97[1-46]|64[12])")  # D01
LONGEST_MAIL = 254  # RFC 5321, 4.5.3.1.3, without the angle brackets
LONGEST_LOCAL_PART = 64  # 4.5.3.1.1
# A mail address that needs neither quotes nor an extension of SMTP: nothing in it can end a line or
# a header.
MAIL = re.compile(
    r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(?:\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*"
    r"@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+"
)

# A national number of these beginnings may be of a region overseas: those are asked first (D08).
SHARED_PREFIXES = re.compile(r"\s*0[2567]")
OVERSEAS = ("GP", "GF", "MQ", "RE", "YT")
FRENCH_REGIONS = {*OVERSEAS, "FR", "BL", "MF"}  # those of the numbering plan of Guadeloupe too


def is_mail(text: str) -> bool:
    """Say whether `text` has the shape of a mail address."""
    local_part, _, _ = text.partition("@")
    short = len(text) <= LONGEST_MAIL and len(local_part) <= LONGEST_LOCAL_PART
    return short and MAIL.fullmatch(text) is not None


def is_number(text: str) -> bool:
    """Say whether `text` is a numéro d'allocataire: 7 ASCII digits."""
    return NUMBER.fullmatch(text) is not None


def e164(text: str) -> str | None:
    """Give a telephone number as +…, or None if it is not a valid one (D08).

    phonenumbers would take letters for keys of a telephone, or an extension: then it is somebody's
    else.
    """
    if any(map(str.isalpha, text)):
        return None
    for region in (*OVERSEAS, "FR") if SHARED_PREFIXES.match(text) else ("FR",):
        try:
            number = phonenumbers.parse(text, region)
        except phonenumbers.NumberParseException:
            continue
        if phonenumbers.is_valid_number(number):
            return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)
    return None


def takes_sms(phone: str) -> bool:
    """Say whether a number (+…) is a French mobile, overseas included (D08)."""
    number = phonenumbers.parse(phone)
    return (
        phonenumbers.region_code_for_number(number) in FRENCH_REGIONS
        and phonenumbers.number_type(number) == phonenumbers.PhoneNumberType.MOBILE
    )
