"""Where a message to a person may go: to contacts of the dossier alone, and trusted ones (D04)."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date, timedelta

from shared.identifiers import e164, is_mail, takes_sms
from shared.keyring import KeyRing
from shared.models import Route
from shared.people import Address, PersonData
from shared.rules import PARIS
from shared.store import Store


@dataclass(frozen=True)
class Contact:
    """A telephone number (+…) or a mail address; repr hides it."""

    route: Route
    value: str = field(repr=False)
    former: bool = False  # the one on file was changed lately: this is the one before

    def index(self, keys: KeyRing) -> bytes:
        """Give its blind index (R15's limits are per contact)."""
        return keys.index("phone" if self.route is Route.SMS else "email", self.value)


def on_file(person: PersonData, route: Route) -> Contact | None:
    """Give a person's contact as the dossier has it, however new, if a message can reach it."""
    if route is Route.MAIL:
        return Contact(route, normal_mail(person.email)) if person.email else None
    return Contact(route, person.mobile) if person.mobile and takes_sms(person.mobile) else None


def trusted(store: Store, person: PersonData, route: Route) -> Contact | None:
    """Give the contact that a secret may go to: not one changed lately, but the one before (D04).

    Of a mail address the one before is not kept.
    """
    if route is Route.MAIL:
        return None if _lately(store, person.email_since) else on_file(person, route)
    if not _lately(store, person.mobile_since):
        return on_file(person, route)
    before = person.mobile_before
    return Contact(route, before, former=True) if before and takes_sms(before) else None


def all_trusted(store: Store, person: PersonData) -> Iterator[Contact]:
    """Give every contact that a notice may go to, the quickest first."""
    for route in (Route.SMS, Route.MAIL):
        contact = trusted(store, person, route)
        if contact is not None:
            yield contact


def trusted_address(store: Store, person: PersonData) -> Address | None:
    """Give where a letter may go: not to an address changed lately, but to the one before (D04).

    None if there is no such one: the letter waits until the new one may be trusted.
    """
    return person.address_before if _lately(store, person.address_since) else person.address


def read_contact(text: str) -> Contact | None:
    """Read a French mobile, +… or national (D08), or a mail address; None if it is neither."""
    if "@" in text:
        address = normal_mail(text)
        return Contact(Route.MAIL, address) if is_mail(address) else None
    number = e164(text)
    return Contact(Route.SMS, number) if number is not None and takes_sms(number) else None


def normal_mail(address: str) -> str:
    """Write a mail address as it is compared: people don't mind its case."""
    return address.strip().casefold()


def _lately(store: Store, since: date | None) -> bool:
    today = store.clock().astimezone(PARIS).date()
    return since is not None and since > today - timedelta(days=store.rules.reset.contact_days)
