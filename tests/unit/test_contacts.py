"""Which contacts of a person a secret may go to: none that was changed lately (D04)."""

from datetime import UTC, date, datetime

import pytest

from shared.contacts import Contact, all_trusted, read_contact, trusted
from shared.models import Route
from shared.people import PersonData
from shared.store import Store
from tests.store import FakeClock

one_database = pytest.mark.parametrize("url", ["sqlite"], indirect=True)

MOBILE, FORMER, FOREIGN = "+33612345678", "+33698765432", "+4915112345678"
LANDLINE = "+33140295308"
MAIL = "claire@exemple.fr"
LATELY, LONG_AGO = date(2021, 10, 4), date(2021, 10, 3)  # 29 and 30 days before the clock's day

SMS_CASES = {
    "a mobile": (PersonData(mobile=MOBILE), Contact(Route.SMS, MOBILE)),
    "one of long ago": (
        PersonData(mobile=MOBILE, mobile_since=LONG_AGO, mobile_before=FORMER),
        Contact(Route.SMS, MOBILE),
    ),
    "a new one: the one before": (
        PersonData(mobile=MOBILE, mobile_since=LATELY, mobile_before=FORMER),
        Contact(Route.SMS, FORMER, former=True),
    ),
    "a new one, none before": (PersonData(mobile=MOBILE, mobile_since=LATELY), None),
    "a new one, a foreign one before": (
        PersonData(mobile=MOBILE, mobile_since=LATELY, mobile_before=FOREIGN),
        None,
    ),
    "taken away lately: the one before": (
        PersonData(mobile_since=LATELY, mobile_before=FORMER),
        Contact(Route.SMS, FORMER, former=True),
    ),
    "a foreign mobile (D08)": (PersonData(mobile=FOREIGN), None),
    "only a landline": (PersonData(landline=LANDLINE), None),
    "nothing": (PersonData(), None),
}
MAIL_CASES = {
    "an address": (PersonData(email=MAIL), Contact(Route.MAIL, MAIL)),
    "with capitals": (PersonData(email="Claire@Exemple.FR"), Contact(Route.MAIL, MAIL)),
    "one of long ago": (PersonData(email=MAIL, email_since=LONG_AGO), Contact(Route.MAIL, MAIL)),
    "a new one": (PersonData(email=MAIL, email_since=LATELY), None),
    "nothing": (PersonData(mobile=MOBILE), None),
}


@one_database
@pytest.mark.parametrize(("person", "contact"), SMS_CASES.values(), ids=SMS_CASES)
def test_where_an_sms_goes(store: Store, person: PersonData, contact: Contact | None) -> None:
    assert trusted(store, person, Route.SMS) == contact


@one_database
@pytest.mark.parametrize(("person", "contact"), MAIL_CASES.values(), ids=MAIL_CASES)
def test_where_a_mail_goes(store: Store, person: PersonData, contact: Contact | None) -> None:
    assert trusted(store, person, Route.MAIL) == contact


@one_database
def test_thirty_days_end_at_midnight_in_paris(store: Store, clock: FakeClock) -> None:
    person = PersonData(mobile=MOBILE, mobile_since=date(2021, 10, 4), mobile_before=FORMER)
    clock.now = datetime(2021, 11, 2, 22, 59, 59, tzinfo=UTC)
    assert trusted(store, person, Route.SMS) == Contact(Route.SMS, FORMER, former=True)
    clock.now = datetime(2021, 11, 2, 23, tzinfo=UTC)
    assert trusted(store, person, Route.SMS) == Contact(Route.SMS, MOBILE)


@one_database
def test_a_notice_goes_by_sms_before_mail(store: Store) -> None:
    both = PersonData(mobile=MOBILE, email=MAIL)
    assert [one.route for one in all_trusted(store, both)] == [Route.SMS, Route.MAIL]
    assert [one.route for one in all_trusted(store, PersonData(email=MAIL))] == [Route.MAIL]


def test_repr_hides_the_contact() -> None:
    assert "612345678" not in repr(Contact(Route.SMS, MOBILE))


READ = {
    "+33612345678": Contact(Route.SMS, MOBILE),
    "06 12 34 56 78": Contact(Route.SMS, MOBILE),
    "0690000000": Contact(Route.SMS, "+590690000000"),
    " Claire@Exemple.FR ": Contact(Route.MAIL, MAIL),
    "+4915112345678": None,
    "0140295308": None,
    "36180": None,
    "claire": None,
    "claire@": None,
    "@exemple.fr": None,
    "claire@exemple@fr": None,
    "cl aire@exemple.fr": None,
    f"{65 * 'a'}@exemple.fr": None,
    "": None,
}


@pytest.mark.parametrize(("text", "contact"), READ.items(), ids=ascii)
def test_how_a_contact_is_read(text: str, contact: Contact | None) -> None:
    """As the dossier has it, so that it has the same blind index."""
    assert read_contact(text) == contact
