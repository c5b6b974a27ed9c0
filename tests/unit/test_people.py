"""A person's data, sealed into its columns and found again (D13)."""

from datetime import date
from uuid import uuid4

import pytest

from shared.errors import SealError
from shared.keyring import KeyRing
from shared.models import Person
from shared.people import (
    Address,
    PersonData,
    blind_indexes,
    identity_key,
    normalise_name,
    open_person,
    seal_person,
)

CLAIRE = PersonData(  # every field is filled
    surname="Lefèvre-Durand",
    given_names="Claire Zoé",
    birth_date=date(1995, 10, 7),
    nir="2951099126111",
    mobile="+33612345678",
    mobile_since=date(2020, 3, 1),
    mobile_before="+33698765432",
    landline="+33140000001",
    email="claire@exemple.fr",
    email_since=date(2020, 5, 6),
    address=Address("3 rue des Lilas", "bâtiment B", "75012", "Paris"),
    address_since=date(2019, 9, 30),
    address_before=Address("8 rue du Port", None, "29200", "Brest"),
)


def sealed(keys: KeyRing, data: PersonData) -> Person:
    person_id = uuid4()
    return Person(
        id=person_id,
        account_id=uuid4(),
        role="allocataire",
        **seal_person(keys, person_id, data),
    )


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(CLAIRE, id="everything known"),
        pytest.param(PersonData(), id="nothing known"),
        pytest.param(PersonData(surname="Petit", nir="1800175001001"), id="NIR, no birth date"),
        pytest.param(PersonData(mobile="+33612345678"), id="only a mobile"),
        pytest.param(
            PersonData(address=Address("Le Bourg", None, "23000", "Guéret")), id="short address"
        ),
    ],
)
def test_what_is_sealed_opens_again(keys: KeyRing, data: PersonData) -> None:
    assert open_person(keys, sealed(keys, data)) == data


def test_no_column_holds_personal_data_in_clear(keys: KeyRing) -> None:
    columns = seal_person(keys, uuid4(), CLAIRE)
    clear = {name: value for name, value in columns.items() if not isinstance(value, bytes)}
    assert clear == {
        "mobile_since": CLAIRE.mobile_since,
        "email_since": CLAIRE.email_since,
        "address_since": CLAIRE.address_since,
    }
    everything = b"".join(value for value in columns.values() if isinstance(value, bytes))
    for text in (
        "Claire",
        "2951099126111",
        "612345678",
        "698765432",
        "140000001",
        "exemple",
        "Lilas",
        "1995",
    ):
        assert text.encode() not in everything


@pytest.mark.parametrize(
    "column",
    [
        "nir_sealed",
        "identity_sealed",
        "mobile_sealed",
        "mobile_before_sealed",
        "email_sealed",
        "address_sealed",
    ],
)
def test_a_column_of_another_person_does_not_open(keys: KeyRing, column: str) -> None:
    person, other = sealed(keys, CLAIRE), sealed(keys, CLAIRE)
    setattr(person, column, getattr(other, column))
    with pytest.raises(SealError):
        open_person(keys, person)


def test_a_value_does_not_open_in_another_column(keys: KeyRing) -> None:
    person = sealed(keys, CLAIRE)
    person.mobile_sealed = person.landline_sealed
    with pytest.raises(SealError):
        open_person(keys, person)


def test_nothing_shows_when_it_is_printed() -> None:
    for value in (CLAIRE, CLAIRE.address):
        printed = f"{value} {value!r}"
        for text in ("Lefèvre", "Claire", "2951099126111", "612345678", "exemple", "Lilas", "1995"):
            assert text not in printed


def test_a_telephone_is_found_whether_it_is_a_mobile_or_a_landline(keys: KeyRing) -> None:
    """A caller id on file is looked up without knowing which (D05)."""
    number = "+33612345678"
    as_mobile = blind_indexes(keys, PersonData(mobile=number))
    as_landline = blind_indexes(keys, PersonData(landline=number))
    assert as_mobile["mobile_index"] == as_landline["landline_index"] == keys.index("phone", number)


def test_what_is_not_known_has_no_index(keys: KeyRing) -> None:
    assert set(blind_indexes(keys, PersonData()).values()) == {None}


def test_without_a_birth_date_a_name_identifies_nobody() -> None:
    assert identity_key(PersonData(surname="Petit", given_names="Jean")) is None


@pytest.mark.parametrize(
    ("one", "other"),
    [
        pytest.param("DUPONT", "dupont", id="case"),
        pytest.param("Lefèvre", "LEFEVRE", id="accent"),
        pytest.param("Lefe\u0300vre", "Lef\u00e8vre", id="accent, composed or not"),
        pytest.param("Jean-Pierre", "Jean Pierre", id="hyphen"),
        pytest.param("Jean  Pierre", " Jean Pierre ", id="spaces"),
        pytest.param("d\u2019Alembert", "D'ALEMBERT", id="apostrophe"),
        pytest.param("Lecœur", "LECOEUR", id="ligature"),
        pytest.param("Françoise", "FRANCOISE", id="cedilla"),
    ],
)
def test_names_that_are_the_same(one: str, other: str) -> None:
    assert normalise_name(one) == normalise_name(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        pytest.param(("Martin", "Anne"), ("Martin", "Anna"), id="given name"),
        pytest.param(("Martin", "Anne"), ("Marti", "nAnne"), id="where the name ends"),
        pytest.param(("Martin", None), ("Martin", "Anne"), id="no given name"),
    ],
)
def test_people_who_are_not_the_same(
    one: tuple[str, str | None], other: tuple[str, str | None]
) -> None:
    born = date(1980, 1, 2)
    assert identity_key(PersonData(*one, born)) != identity_key(PersonData(*other, born))


def test_people_born_on_different_days_are_not_the_same() -> None:
    keys = {identity_key(PersonData("Martin", "Anne", date(1980, 1, day))) for day in (2, 3)}
    assert len(keys) == 2
