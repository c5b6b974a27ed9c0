"""The shapes of identifiers (D01, D08)."""

import pytest

from shared.identifiers import CAISSE, e164, is_number

# fmt: off
NUMBERS = [
    ("0123456",  True,  "leading zero kept"),
    ("0000000",  True,  "all zeros"),
    ("123456",   False, "6 digits"),
    ("12345678", False, "8 digits"),
    ("",         False, "nothing"),
    ("012345A",  False, "a letter"),
    ("0123456\n", False, "a line end"),
    (" 123456",  False, "a space"),
    ("٠١٢٣٤٥٦",  False, "digits of another script"),
    ("１２３４５６７", False, "wide digits"),  # noqa: RUF001
]
CAISSES = [
    ("01", True), ("75", True), ("95", True), ("2A", True), ("2B", True),
    ("971", True), ("972", True), ("973", True), ("974", True), ("976", True),
    ("641", True), ("642", True),
    ("00", False), ("96", False), ("99", False), ("20", False), ("64", False),
    ("97", False), ("970", False), ("975", False), ("977", False), ("643", False),
    ("2C", False), ("2a", False), ("1", False), ("", False), ("075", False), ("75\n", False),
    ("７５", False),  # noqa: RUF001
]
TELEPHONES = [
    ("06 12 34 56 78",     "+33612345678",  "mobile, metropolitan"),
    ("07 56 78 90 12",     "+33756789012",  "mobile, metropolitan, 07"),
    ("0690 00 12 34",      "+590690001234", "mobile, Guadeloupe"),
    ("0694 20 12 34",      "+594694201234", "mobile, Guyane"),
    ("0696 20 12 34",      "+596696201234", "mobile, Martinique"),
    ("0692 12 34 56",      "+262692123456", "mobile, Réunion"),
    ("0639 01 23 45",      "+262639012345", "mobile, Mayotte"),
    ("0590 20 12 34",      "+590590201234", "landline, Guadeloupe"),
    ("0262 20 12 34",      "+262262201234", "landline, Réunion"),
    ("01 43 21 56 78",     "+33143215678",  "landline, Paris"),
    ("+33 6 12 34 56 78",  "+33612345678",  "international form"),
    ("0033612345678",      "+33612345678",  "international form, 00"),
    ("+44 20 7946 0958",   "+442079460958", "a number of another country"),
    ("06 12 34 56",        None,            "too short"),
    ("06 12 34 56 78 90",  None,            "too long"),
    ("3230",               None,            "a short number"),
    ("+336ABCDEFGH",       None,            "letters, which are no keys of a telephone here"),
    ("06 12 34 56 78 x12", None,            "an extension"),
    ("anonymous",          None,            "what a network sends for a withheld one"),
    ("",                   None,            "nothing"),
    ("'; DROP TABLE x",    None,            "an attack"),
]
# fmt: on


@pytest.mark.parametrize(
    ("text", "expected"), [row[:2] for row in NUMBERS], ids=[row[2] for row in NUMBERS]
)
def test_a_number_is_seven_digits(text: str, expected: bool) -> None:
    assert is_number(text) is expected


@pytest.mark.parametrize(("text", "expected"), CAISSES)
def test_a_caisse_is_a_departement_or_one_of_its_caisses(text: str, expected: bool) -> None:
    assert (CAISSE.fullmatch(text) is not None) is expected


@pytest.mark.parametrize(
    ("text", "expected"), [row[:2] for row in TELEPHONES], ids=[row[2] for row in TELEPHONES]
)
def test_a_telephone_number_is_looked_up_overseas_first(text: str, expected: str | None) -> None:
    assert e164(text) == expected
