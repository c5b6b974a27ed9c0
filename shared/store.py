"""What every function of the store needs, in one value."""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

from shared.clock import Chance, Clock, fair_chance, system_clock
from shared.database import Database
from shared.day_keys import DayKeys
from shared.dossier_data import DossierSource
from shared.hashing import Hasher
from shared.keyring import KeyRing
from shared.rules import Rules


@dataclass(frozen=True)
class Store:
    """Database, keys, rules, hasher, clock and chance of one credential store."""

    database: Database
    keys: KeyRing
    rules: Rules
    hasher: Hasher
    clock: Clock
    chance: Chance = fair_chance
    dossiers: DossierSource | None = None  # in the place of what is imported here

    @classmethod
    def open(cls, url: str, keys: Path, rules: Rules, days: DayKeys | None = None) -> Self:
        """Open a store whose schema and key ring exist."""
        return cls(
            database=Database(url),
            keys=KeyRing.load(keys, days),
            rules=rules,
            hasher=Hasher(rules.argon2),
            clock=system_clock,
        )

    def close(self) -> None:
        """Close the database."""
        self.database.close()
