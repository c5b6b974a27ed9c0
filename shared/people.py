"""What the store knows of a person, and how it is sealed into the columns of `Person` (D13).

A sealed column opens only for the person and the column it was sealed for. Blind indexes let a
NIR, a telephone number or a civil status be looked up without being readable.
"""

import json
import unicodedata
from dataclasses import asdict, dataclass
from datetime import date
from uuid import UUID

from shared.keyring import KeyRing
from shared.models import Person

Columns = dict[str, bytes | date | None]
"""Values of `Person` by column name."""


@dataclass(frozen=True, slots=True, repr=False)
class Address:
    """A postal address in France."""

    line1: str
    line2: str | None
    postcode: str
    city: str


@dataclass(frozen=True, slots=True, repr=False)
class PersonData:
    """A person's data in clear; none of it shows when the value is printed or logged."""

    surname: str | None = None
    given_names: str | None = None
    birth_date: date | None = None
    nir: str | None = None  # the first 13 characters: the key has no place in it
    mobile: str | None = None  # +…
    mobile_since: date | None = None  # the day it was changed (D04); None: long ago, or never
    mobile_before: str | None = None  # the one that `mobile` replaced
    landline: str | None = None  # +…
    email: str | None = None
    email_since: date | None = None  # the day it was changed (D04); None: long ago, or never
    address: Address | None = None
    address_since: date | None = None
    address_before: Address | None = None  # the one that `address` replaced


def seal_person(keys: KeyRing, person_id: UUID, data: PersonData) -> Columns:
    """Give every column of `Person` that `data` fills, sealed for the person of that id."""
    plain = {
        "nir": data.nir,
        "identity": _identity_text(data),
        "mobile": data.mobile,
        "mobile_before": data.mobile_before,
        "landline": data.landline,
        "email": data.email,
        "address": _address_text(data.address),
        "address_before": _address_text(data.address_before),
    }
    sealed = {
        f"{column}_sealed": keys.seal(text.encode(), *binding(person_id, column)) if text else None
        for column, text in plain.items()
    }
    return {
        **sealed,
        **blind_indexes(keys, data),
        "mobile_since": data.mobile_since,
        "email_since": data.email_since,
        "address_since": data.address_since,
    }


def open_person(keys: KeyRing, person: Person) -> PersonData:
    """Read a person's data; SealError if a column was altered or comes from another row."""

    def opened(column: str) -> str | None:
        sealed: bytes | None = getattr(person, f"{column}_sealed")
        if sealed is None:
            return None
        return keys.open(sealed, *binding(person.id, column)).decode()

    identity = json.loads(opened("identity") or "{}")
    birth_date = identity.get("birth_date")
    address, address_before = opened("address"), opened("address_before")
    return PersonData(
        surname=identity.get("surname"),
        given_names=identity.get("given_names"),
        birth_date=date.fromisoformat(birth_date) if birth_date else None,
        nir=opened("nir"),
        mobile=opened("mobile"),
        mobile_since=person.mobile_since,
        mobile_before=opened("mobile_before"),
        landline=opened("landline"),
        email=opened("email"),
        email_since=person.email_since,
        address=Address(**json.loads(address)) if address else None,
        address_since=person.address_since,
        address_before=Address(**json.loads(address_before)) if address_before else None,
    )


def blind_indexes(keys: KeyRing, data: PersonData) -> dict[str, bytes | None]:
    """Give the index columns of `Person`; a landline and a mobile are looked up alike (D05)."""

    def index(kind: str, value: str | None) -> bytes | None:
        return keys.index(kind, value) if value else None

    return {
        "nir_index": index("nir", data.nir),
        "identity_index": index("identity", identity_key(data)),
        "mobile_index": index("phone", data.mobile),
        "landline_index": index("phone", data.landline),
    }


def identity_key(data: PersonData) -> str | None:
    """Give the civil status in the form that is compared; None without name or birth date."""
    if data.surname is None or data.birth_date is None:
        return None
    names = (normalise_name(data.surname), normalise_name(data.given_names or ""))
    return "|".join((*names, data.birth_date.isoformat()))


def normalise_name(name: str) -> str:
    """Give the letters and digits of a name, without case, accents or what separates them."""
    folded = unicodedata.normalize("NFKD", name).casefold().replace("œ", "oe").replace("æ", "ae")
    return "".join(char for char in folded if char.isalnum())


def _identity_text(data: PersonData) -> str | None:
    identity = {
        "surname": data.surname,
        "given_names": data.given_names,
        "birth_date": data.birth_date.isoformat() if data.birth_date else None,
    }
    return _to_json(identity) if any(identity.values()) else None


def _address_text(address: Address | None) -> str | None:
    return _to_json(asdict(address)) if address else None


def _to_json(value: dict[str, str | None]) -> str:
    return json.dumps(value, ensure_ascii=False)


def binding(person_id: UUID, column: str) -> tuple[str, ...]:
    """A sealed column opens for its person only."""
    return ("person", str(person_id), column)
