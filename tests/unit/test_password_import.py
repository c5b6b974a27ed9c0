"""Passwords of an earlier system, from a file that anybody may have written."""

import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import func, select, update

from shared import life_cycle
from shared.credentials import Refusal, set_secret
from shared.csv_file import ImportRefusedError
from shared.hashing import Hasher
from shared.life_cycle import Key
from shared.models import Account, AuditEntry, Credential
from shared.origin import Origin
from shared.password_import import COLUMNS, ImportResult, import_passwords
from shared.resets import request_password
from shared.rules import Channel
from shared.secret import Secret
from shared.sessions import Session
from shared.store import Store
from tests.store import (
    CAISSE,
    CHEAP,
    NUMBER,
    PASSWORD,
    CountingHasher,
    FakeClock,
    add_account,
    execute,
    log_in,
    open_session,
)

OTHER_NUMBER = "7654321"
OLD = "50718264"  # the password of the earlier system
CODE = "4826"
ADMIN = Origin(Channel.ADMIN)


def sha1(secret: str) -> str:
    return hashlib.sha1(secret.encode(), usedforsecurity=False).hexdigest()


def line(**cells: str) -> str:
    """Give a line that is right but for these cells."""
    right = {
        "caisse": CAISSE,
        "numero": NUMBER,
        "type": "mot-de-passe",
        "procede": "sha1",
        "empreinte": sha1(OLD),
        "cree_le": "2021-06-01",
    }
    return ";".join((right | cells).get(column, "") for column in COLUMNS)


def write(folder: Path, *lines: str) -> Path:
    file = folder / "passwords.csv"
    file.write_text("\n".join([";".join(COLUMNS), *lines]) + "\n", encoding="utf-8")
    return file


def take(store: Store, folder: Path, *lines: str) -> ImportResult:
    return import_passwords(store, write(folder, *lines))


def findings(store: Store, folder: Path, *lines: str) -> list[str]:
    with pytest.raises(ImportRefusedError) as raised:
        take(store, folder, *lines)
    with store.database.read() as transaction:
        assert transaction.scalar(select(func.count()).select_from(Credential)) == 0
    return [str(finding) for finding in raised.value.findings]


def stored(store: Store) -> Sequence[Credential]:
    with store.database.read() as transaction:
        return transaction.scalars(select(Credential).order_by(Credential.created_at)).all()


def phc(store: Store, row: Credential) -> str:
    binding = ("credential", str(row.account_id), str(row.id), row.kind)
    return store.keys.open(row.hash_sealed, *binding).decode()


def test_the_old_password_logs_in_and_its_digest_is_gone_at_first_use(
    store: Store, tmp_path: Path, hasher: CountingHasher
) -> None:
    add_account(store, password=None)
    assert take(store, tmp_path, line()) == ImportResult(taken=1, unchanged=0, outdated=0)
    [row] = stored(store)
    assert phc(store, row).startswith("sha1:1:$argon2id$")
    assert sha1(OLD) not in phc(store, row)
    assert log_in(store, PASSWORD) is Refusal.REFUSED
    assert isinstance(log_in(store, OLD), Session)
    [row] = stored(store)
    assert phc(store, row).startswith("$argon2id$")
    assert isinstance(log_in(store, OLD), Session)
    assert hasher.compared == 3


def test_a_code_logs_in_until_a_password_is_used(store: Store, tmp_path: Path) -> None:
    """D09."""
    add_account(store, password=None)
    take(store, tmp_path, line(), line(type="code", empreinte=sha1(CODE)))
    assert isinstance(log_in(store, CODE), Session)
    open_session_with(store, OLD)
    assert log_in(store, CODE) is Refusal.REFUSED


def open_session_with(store: Store, secret: str) -> None:
    assert isinstance(log_in(store, secret), Session)


def test_an_argon2id_hash_of_other_costs_is_renewed_at_first_use(
    store: Store, tmp_path: Path
) -> None:
    add_account(store, password=None)
    other = Hasher(CHEAP.model_copy(update={"passes": 3})).hash(Secret(OLD))
    take(store, tmp_path, line(procede="argon2id", empreinte=other))
    open_session_with(store, OLD)
    assert phc(store, stored(store)[0]).startswith("$argon2id$v=19$m=8,t=1,p=1$")


def test_a_forgotten_password_goes_beside_the_one_taken_over(store: Store, tmp_path: Path) -> None:
    """D03, D07: both open, by one computation each."""
    add_account(store, password=None)
    take(store, tmp_path, line())
    request_password(store, CAISSE, NUMBER, Origin(Channel.VOICE))
    _, pending = stored(store)
    assert phc(store, pending).startswith("sha1:1:$argon2id$")
    assert isinstance(log_in(store, OLD), Session)


def test_its_two_years_count_from_its_creation(
    store: Store, tmp_path: Path, clock: FakeClock
) -> None:
    """R07; one that is provisional has two months (R09). Midnight in Paris is 22:00 UTC."""
    add_account(store, password=None)
    add_account(store, OTHER_NUMBER, None, mobile=None)
    take(store, tmp_path, line(), line(numero=OTHER_NUMBER, provisoire="oui", cree_le="2021-09-30"))
    own, provisional = stored(store)
    assert own.created_at == datetime(2021, 5, 31, 22, tzinfo=UTC)
    assert own.expires_at == datetime(2023, 5, 31, 22, tzinfo=UTC)
    assert (own.provisional, provisional.provisional) == (False, True)
    assert provisional.expires_at == datetime(2021, 11, 29, 22, tzinfo=UTC)


def test_without_a_date_it_counts_from_now(store: Store, tmp_path: Path, clock: FakeClock) -> None:
    add_account(store, password=None)
    take(store, tmp_path, line(cree_le=""))
    assert stored(store)[0].expires_at == clock.now + timedelta(days=730)


# Twice, and beside what is here


def test_the_same_line_twice_changes_nothing(
    store: Store, tmp_path: Path, hasher: CountingHasher
) -> None:
    add_account(store, password=None)
    take(store, tmp_path, line())
    open_session_with(store, OLD)  # the hash is another now
    before = [row.hash_sealed for row in stored(store)]
    assert take(store, tmp_path, line()) == ImportResult(0, 1, 0)
    assert [row.hash_sealed for row in stored(store)] == before


def test_what_was_ended_here_never_comes_back(store: Store, tmp_path: Path) -> None:
    add_account(store, password=None)
    take(store, tmp_path, line())
    life_cycle.revoke(store, Key(CAISSE, NUMBER), ADMIN, reissue=False)
    assert take(store, tmp_path, line()) == ImportResult(0, 1, 0)
    another = line(empreinte=sha1("11223344"), cree_le="2021-07-01")
    assert take(store, tmp_path, another) == ImportResult(0, 0, 1)
    assert log_in(store, OLD) is Refusal.REFUSED
    assert log_in(store, "11223344") is Refusal.REFUSED


@pytest.mark.parametrize("created", ["2021-11-02T10:29:59", ""], ids=["a second older", "unknown"])
def test_a_password_of_ours_is_not_replaced_by_an_older_one(
    store: Store, tmp_path: Path, created: str
) -> None:
    add_account(store)  # on 2 November 2021 at 10:30 in Paris
    assert take(store, tmp_path, line(cree_le=created)) == ImportResult(0, 0, 1)
    open_session(store)
    assert log_in(store, OLD) is Refusal.REFUSED


def test_a_password_of_ours_is_replaced_by_a_newer_one(
    store: Store, tmp_path: Path, clock: FakeClock
) -> None:
    add_account(store)
    clock.advance(timedelta(days=1))
    assert take(store, tmp_path, line(cree_le="2021-11-03")) == ImportResult(1, 0, 0)
    assert log_in(store) is Refusal.REFUSED
    open_session_with(store, OLD)


def test_a_newer_file_replaces_an_older_one(store: Store, tmp_path: Path) -> None:
    add_account(store, password=None)
    take(store, tmp_path, line())
    newer = line(empreinte=sha1("11223344"), cree_le="2021-07-01")
    newest = line(empreinte=sha1("44332211"), cree_le="2021-08-01")
    assert take(store, tmp_path, newer) == ImportResult(1, 0, 0)
    assert take(store, tmp_path, newest) == ImportResult(1, 0, 0)
    open_session_with(store, "44332211")
    assert log_in(store, OLD) is Refusal.REFUSED


def test_no_code_comes_after_a_password_was_used(store: Store, tmp_path: Path) -> None:
    """R04."""
    add_account(store)
    open_session(store)
    given = line(type="code", empreinte=sha1(CODE))
    assert take(store, tmp_path, given) == ImportResult(0, 0, 1)
    assert log_in(store, CODE) is Refusal.REFUSED


def test_what_is_taken_over_is_audited(store: Store, tmp_path: Path) -> None:
    account_id = add_account(store, password=None)
    take(store, tmp_path, line())
    with store.database.read() as transaction:
        entry = transaction.scalars(select(AuditEntry)).one()
    assert (entry.event, entry.channel, entry.account_id) == (
        "password-imported",
        "admin",
        account_id,
    )
    assert entry.subject_id == stored(store)[0].id


# Bad lines

COSTLY = "$argon2id$v=19$m=16777216,t=2,p=1$c29tZXNhbHQ$" + "A" * 43
BAD = {
    "caisse": (line(caisse="99"), ", colonne caisse : code de caisse inconnu"),
    "number": (line(numero="12345678"), ", colonne numero : 7 chiffres attendus"),
    "type": (line(type="web"), ", colonne type : attendu : mot-de-passe, code"),
    "scheme": (line(procede="crypt"), ", colonne empreinte : procédé inconnu"),
    "no digest": (line(empreinte=""), ", colonne empreinte : valeur obligatoire"),
    "digest": (line(empreinte=OLD), ", colonne empreinte : empreinte de 20 octets attendue"),
    "costly": (
        line(procede="argon2id", empreinte=COSTLY),
        ", colonne empreinte : $argon2id$… attendu, dans nos limites",
    ),
    "rounds": (
        line(procede="pbkdf2-sha256", empreinte=f"$pbkdf2-sha256$i=999999999$AAAA${'A' * 43}"),
        ", colonne empreinte : de 1 à 1000000 itérations attendues",
    ),
    "future": (line(cree_le="2021-11-03"), ", colonne cree_le : date à venir"),
    "no date": (line(cree_le="2021-02-29"), ", colonne cree_le : cette date n'existe pas"),
    "before all dates": (line(cree_le="0001-01-01"), None),
    "another date": (
        line(cree_le="01/06/2021"),
        ", colonne cree_le : attendu : AAAA-MM-JJ ou AAAA-MM-JJTHH:MM:SS, heure de Paris",
    ),
    "provisional": (line(provisoire="non"), ", colonne provisoire : « oui » ou rien attendu"),
    "unknown dossier": (
        line(numero=OTHER_NUMBER),
        ", colonne numero : il n'y a pas de tel dossier ouvert",
    ),
    "a cell too many": (line() + ";x", " : 8 colonnes au lieu de 7"),
    "an open quote": ('"' + line(), " : guillemet mal placé ou saut de ligne dans une cellule"),
}


@pytest.mark.parametrize(("bad", "finding"), BAD.values(), ids=BAD)
def test_a_bad_line_spoils_the_file_and_is_not_quoted(
    store: Store, tmp_path: Path, hasher: CountingHasher, bad: str, finding: str | None
) -> None:
    add_account(store, password=None)
    found = findings(store, tmp_path, line(), bad)
    if finding is not None:
        assert f"ligne 3{finding}" in found
    assert not any(cell in str(found) for cell in (OLD, NUMBER, OTHER_NUMBER, sha1(OLD)))


def test_every_bad_line_is_reported(store: Store, tmp_path: Path) -> None:
    add_account(store, password=None)
    found = findings(store, tmp_path, line(type=""), line(), line(caisse="", numero="x"), line())
    assert found == [
        "ligne 2, colonne type : valeur obligatoire",
        "ligne 4, colonne caisse : valeur obligatoire",
        "ligne 4, colonne numero : 7 chiffres attendus",
        "ligne 5 : même dossier et même type qu'à la ligne 3",
    ]


def test_a_closed_dossier_is_unknown(store: Store, tmp_path: Path) -> None:
    add_account(store, password=None)
    execute(store, lambda t: t.execute(update(Account).values(closed_at=store.clock())))
    found = findings(store, tmp_path, line())
    assert found == ["ligne 2, colonne numero : il n'y a pas de tel dossier ouvert"]


def test_progress_grows_to_the_end(store: Store, tmp_path: Path) -> None:
    add_account(store, password=None)
    add_account(store, OTHER_NUMBER, None, mobile=None)
    seen: list[tuple[int, int]] = []
    file = write(tmp_path, line(), line(numero=OTHER_NUMBER))
    import_passwords(store, file, lambda done, steps: seen.append((done, steps)))
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert seen[-1] == (6, 6)


def test_a_secret_set_here_is_of_use_beside(store: Store, tmp_path: Path) -> None:
    """A code of ours and a password taken over have nothing to do with each other."""
    add_account(store, password=None)
    set_secret(store, CAISSE, NUMBER, Secret(CODE))
    take(store, tmp_path, line())
    assert isinstance(log_in(store, CODE), Session)
    open_session_with(store, OLD)
