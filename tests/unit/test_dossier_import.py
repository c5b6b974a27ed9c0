"""What the information system drops of dossiers: every good line in, every bad one told (R38)."""

import json
import multiprocessing
import os
import signal
from collections.abc import Mapping, Sequence
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from sqlalchemy import delete, func, select, update

from shared import disclosure, dossier, dossier_import, dossier_store, processing_delays
from shared.dossier_data import (
    AHEAD,
    ALERTS,
    DEBTS,
    PAYMENTS,
    SECTIONS,
    DossierLine,
)
from shared.dossier_import import (
    BATCH,
    MOST_FINDINGS,
    MOST_LINE_BYTES,
    Imported,
    files_of,
    import_file,
    put_away,
)
from shared.errors import SettingsError, UnavailableError
from shared.models import Account, AuditEntry, DossierSection
from shared.store import Store
from tests.processes import Place, run_together
from tests.store import CAISSE, NUMBER, FakeClock, add_account, execute, open_session

OTHER_NUMBER = "7654321"
AS_OF = "2021-11-02T04:00:00+01:00"
DAY = timedelta(days=1)

PAYMENT: Mapping[str, Any] = {"paid_on": "2021-10-05", "cents": 48_171, "payee": "vous"}
EVERYTHING: Mapping[str, Any] = {
    "payments": [{**PAYMENT, "withheld": [{"cents": 3_500, "reason": "saisie"}]}],
    "rights": [{"code": "apl", "since": "2020-01-01", "ended_on": "2021-09-30",
                "reason": "ressources"}],
    "quotient": [{"value": 812, "month": "2021-10"}],
    "claims": [{"category": "rsa", "received_on": "2021-10-20", "state": "en-cours",
                "expected_by": "2021-11-20"}],
    "requests": [{"document": "rib", "before": "2021-11-30"}],
    "certificates": [{"kind": "paiement", "months": ["2021-10"]}],
    "debts": [{"code": "aide-logement", "left": 24_000, "monthly": 3_500}],
    "appointments": [{"at": "2021-11-12T14:30:00+01:00", "place": "accueil"}],
    "letters": [{"code": "droits", "sent_on": "2021-10-01"}],
    "alerts": [{"code": "declaration-trimestrielle", "before": "2022-01-31"}],
}  # fmt: skip


def line(**values: Any) -> dict[str, Any]:
    """Give a line that is right but for these values."""
    return {"caisse": CAISSE, "number": NUMBER, "as_of": AS_OF, **values}


def write(folder: Path, *lines: object) -> Path:
    """Write a file: of objects, or of bytes as they are."""
    file = folder / "depot.jsonl"
    parts = [one if isinstance(one, bytes) else json.dumps(one).encode() for one in lines]
    file.write_bytes(b"\n".join(parts) + b"\n")
    return file


def take(store: Store, folder: Path, *lines: object) -> Imported:
    return import_file(store, write(folder, *lines))


def counts(result: Imported) -> tuple[int, int, int, int]:
    return result.new, result.known, result.closed, result.bad


def told(result: Imported) -> list[str]:
    return [str(finding) for finding in result.findings]


def cents(store: Store, number: str = NUMBER) -> list[int]:
    return [one.cents for one in dossier.read(store, open_session(store, number), PAYMENTS)]


@pytest.fixture
def shop(store: Store) -> Store:
    """A store with a dossier of which nothing was told."""
    add_account(store)
    execute(store, lambda t: t.execute(delete(DossierSection)))
    return store


# What comes in


def test_everything_that_can_be_told_is_read_again(shop: Store, tmp_path: Path) -> None:
    assert counts(take(shop, tmp_path, line(**EVERYTHING))) == (1, 0, 0, 0)
    session = open_session(shop)
    for section in SECTIONS:
        read = section.adapter.dump_python(dossier.read(shop, session, section), mode="json")
        given = [_without_empty(one) for one in read]
        assert given == EVERYTHING[section.name], section


def _without_empty(item: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in item.items() if value not in (None, [])}


def test_the_sections_are_those_of_a_line() -> None:
    fields = set(DossierLine.model_fields) - {"caisse", "number", "as_of"}
    assert fields == {section.name for section in SECTIONS} == set(EVERYTHING)


def test_items_are_read_in_the_order_in_which_they_are_said(shop: Store, tmp_path: Path) -> None:
    take(
        shop,
        tmp_path,
        line(
            payments=[{**PAYMENT, "paid_on": f"2021-{month}-05"} for month in ("08", "10", "09")],
            alerts=[
                {"code": "controle"},
                {"code": "rendez-vous", "before": "2021-12-31"},
                {"code": "coordonnees", "before": "2021-11-30"},
            ],
        ),
    )
    session = open_session(shop)
    paid = [one.paid_on.month for one in dossier.read(shop, session, PAYMENTS)]
    alerts = [one.code for one in dossier.read(shop, session, ALERTS)]
    assert (paid, alerts) == ([10, 9, 8], ["coordonnees", "rendez-vous", "controle"])


def test_a_section_that_is_left_out_stays_and_an_empty_one_is_empty(
    shop: Store, tmp_path: Path
) -> None:
    take(shop, tmp_path, line(**EVERYTHING))
    take(shop, tmp_path, line(as_of="2021-11-02T05:00:00+01:00", debts=[]))
    session = open_session(shop)
    assert dossier.read(shop, session, DEBTS) == ()
    assert cents(shop) == [48_171]


def test_a_file_that_comes_again_changes_nothing(shop: Store, tmp_path: Path) -> None:
    file = write(tmp_path, line(**EVERYTHING))
    import_file(shop, file)
    before = _rows(shop)
    assert counts(import_file(shop, file)) == (0, 1, 0, 0)
    assert _rows(shop) == before


def _rows(store: Store) -> list[tuple[str, datetime, bytes]]:
    with store.database.read() as transaction:
        rows = transaction.scalars(select(DossierSection).order_by(DossierSection.section))
        return [(row.section, row.as_of, row.content_sealed) for row in rows]


# as_of of each line that tells a payment of so many cents, in this order; which of them stays
ORDERS = {
    "the newer comes later": ([("T04:00:00+01:00", 1), ("T05:00:00+01:00", 2)], 2),
    "the older comes later": ([("T05:00:00+01:00", 2), ("T04:00:00+01:00", 1)], 2),
    "the same instant": ([("T04:00:00+01:00", 1), ("T04:00:00+01:00", 2)], 1),
    "the same instant, elsewhere": ([("T04:00:00+01:00", 1), ("T07:00:00+04:00", 2)], 1),
    "earlier by the clock on the wall": ([("T04:00:00+01:00", 1), ("T03:30:00Z", 2)], 2),
}


@pytest.mark.parametrize(("given", "stays"), ORDERS.values(), ids=ORDERS)
@pytest.mark.parametrize("files", [1, 2])
def test_older_data_never_takes_the_place_of_newer(
    shop: Store, tmp_path: Path, given: Sequence[tuple[str, int]], stays: int, files: int
) -> None:
    lines = [
        line(as_of=f"2021-11-02{as_of}", payments=[{**PAYMENT, "cents": amount}])
        for as_of, amount in given
    ]
    for start in range(0, len(lines), len(lines) // files):
        take(shop, tmp_path, *lines[start : start + len(lines) // files])
    assert cents(shop) == [stays]


def test_a_closed_dossier_is_left_aside(shop: Store, tmp_path: Path) -> None:
    execute(shop, lambda t: t.execute(update(Account).values(closed_at=shop.clock())))
    assert counts(take(shop, tmp_path, line(**EVERYTHING))) == (0, 0, 1, 0)
    assert _rows(shop) == []


def test_an_erased_dossier_is_not_filled_again(shop: Store, tmp_path: Path) -> None:
    """D16."""
    take(shop, tmp_path, line(**EVERYTHING))
    assert disclosure.erase(shop, CAISSE, NUMBER)
    assert _rows(shop) == []
    take(shop, tmp_path, line(as_of="2021-11-02T05:00:00+01:00", **EVERYTHING))
    assert _rows(shop) == []


def test_a_dossier_is_found_by_caisse_and_number(shop: Store, tmp_path: Path) -> None:
    """D01: another caisse's dossier of the same number is another dossier."""
    result = take(shop, tmp_path, line(caisse="92", payments=[PAYMENT]))
    assert told(result) == ["ligne 1, champ number : dossier inconnu"]
    assert _rows(shop) == []


def test_an_import_is_audited_without_naming_anybody(shop: Store, tmp_path: Path) -> None:
    take(shop, tmp_path, line(**EVERYTHING), line(number=OTHER_NUMBER))
    with shop.database.read() as transaction:
        query = select(AuditEntry).where(AuditEntry.event == "dossiers-imported")
        (entry,) = transaction.scalars(query)
    assert (entry.actor, entry.account_id) == ("new:1 known:0 closed:0 bad:1", None)


def test_nothing_of_it_is_in_clear(shop: Store, tmp_path: Path) -> None:
    """D13."""
    take(shop, tmp_path, line(**EVERYTHING))
    for _, _, content in _rows(shop):
        assert not any(word in content for word in (b"48171", b"apl", b"paid_on", b"2021"))


# Delays

DELAYS = {
    "caisse": CAISSE,
    "as_of": AS_OF,
    "delays": [{"category": "rsa-aah", "first": "2021-10-01", "last": "2021-10-08"}],
}


def test_delays_are_told_by_caisse(store: Store, tmp_path: Path) -> None:
    newer = {**DELAYS, "as_of": "2021-11-02T05:00:00+01:00", "delays": []}
    assert counts(take(store, tmp_path, DELAYS, {**DELAYS, "caisse": "92"})) == (2, 0, 0, 0)
    assert counts(take(store, tmp_path, newer)) == (1, 0, 0, 0)
    assert counts(take(store, tmp_path, DELAYS)) == (0, 1, 0, 0)
    assert processing_delays.of_caisse(store, CAISSE) == ()
    (delay,) = processing_delays.of_caisse(store, "92")
    assert (delay.category, delay.first, delay.last) == (
        "rsa-aah", date(2021, 10, 1), date(2021, 10, 8)
    )  # fmt: skip


def test_delays_that_nobody_told_of_late_are_not_available(
    store: Store, tmp_path: Path, clock: FakeClock
) -> None:
    take(store, tmp_path, DELAYS)
    with pytest.raises(UnavailableError):
        processing_delays.of_caisse(store, "92")
    as_of = datetime.fromisoformat(AS_OF)
    clock.now = as_of + store.rules.dossier.delays_fresh_days * DAY
    assert processing_delays.of_caisse(store, CAISSE)
    clock.advance(timedelta(microseconds=1))
    with pytest.raises(UnavailableError):
        processing_delays.of_caisse(store, CAISSE)


# What is wrong, and how it is told

SECRET = "Jean-Dupont-1850692036015"
UNKNOWN_CODE = "code inconnu : {}, dans rules.toml, ne l'a pas"
NO_DATE = "date attendue sous la forme AAAA-MM-JJ"
NO_OFFSET = "heure attendue avec le décalage du lieu, par exemple +01:00"
LATER = (FakeClock().now + AHEAD + timedelta(seconds=1)).isoformat()

FAULTS: dict[str, tuple[object, str]] = {
    "not JSON": (SECRET.encode(), "ligne 2 : pas un objet JSON en UTF-8"),
    "a number": (b"12", "ligne 2 : objet attendu"),
    "a list": (b"[]", "ligne 2 : objet attendu"),
    "null": (b"null", "ligne 2 : objet attendu"),
    "cut short": (b'{"caisse": "75"', "ligne 2 : pas un objet JSON en UTF-8"),
    "NUL": (b'{"caisse": "75\0"}', "ligne 2 : pas un objet JSON en UTF-8"),
    "not UTF-8": (b'{"caisse": "\xff"}', "ligne 2 : pas un objet JSON en UTF-8"),
    "half a surrogate": (
        b'{"caisse": "75", "number": "\\ud800"}',
        "ligne 2 : pas un objet JSON en UTF-8",
    ),
    "NaN": (
        json.dumps(line(payments=[{**PAYMENT, "cents": float("nan")}])).encode(),
        "ligne 2 : pas un objet JSON en UTF-8",
    ),
    "Infinity": (b'{"caisse": Infinity}', "ligne 2 : pas un objet JSON en UTF-8"),
    "a number of 5,000 digits": (
        b'{"caisse": ' + b"9" * 5_000 + b"}",
        "ligne 2 : pas un objet JSON en UTF-8",
    ),
    "lists 30,000 deep": (b"[" * 30_000, "ligne 2 : pas un objet JSON en UTF-8"),
    "lists 20 deep": (b"[" * 20 + b"]" * 20, "ligne 2 : pas un objet JSON en UTF-8"),
    "a name that stands twice": (
        b'{"caisse": "75", "caisse": "92"}',
        "ligne 2 : pas un objet JSON en UTF-8",
    ),
    "a line too long": (
        line(alerts=[{"code": "x" * MOST_LINE_BYTES}]),
        f"ligne 2 : plus de {MOST_LINE_BYTES} octets",
    ),
    "a name that is not ours": (line(**{SECRET: 1}), "ligne 2 : clé inconnue"),
    "the same in an item": (
        line(payments=[{**PAYMENT, SECRET: 1}]),
        "ligne 2, champ payments.0 : clé inconnue",
    ),
    "no caisse": ({"number": NUMBER, "as_of": AS_OF}, "ligne 2, champ caisse : clé manquante"),
    "a caisse that is none": (line(caisse="20"), "ligne 2, champ caisse : code de caisse inconnu"),
    "a number of 6 digits": (line(number="123456"), "ligne 2, champ number : forme inattendue"),
    "a number as a number": (line(number=1234567), "ligne 2, champ number : texte attendu"),
    "a number with a line break": (
        line(number=f"{NUMBER}\n"),
        "ligne 2, champ number : forme inattendue",
    ),
    "digits of another script": (
        line(number="\u0661" * 7),
        "ligne 2, champ number : forme inattendue",
    ),
    "an instant without offset": (
        line(as_of="2021-11-02T04:00:00"),
        "ligne 2, champ as_of : décalage horaire attendu, par exemple +01:00",
    ),
    "seconds since 1970": (
        line(as_of=1_635_822_000),
        "ligne 2, champ as_of : date et heure attendues, par exemple 2026-11-02T04:00:00+01:00",
    ),
    "an instant to come": (line(as_of=LATER), "ligne 2, champ as_of : instant à venir"),
    "cents as a text": (
        line(payments=[{**PAYMENT, "cents": "48171"}]),
        "ligne 2, champ payments.0.cents : il faut un nombre entier",
    ),
    "half a cent": (
        line(payments=[{**PAYMENT, "cents": 0.5}]),
        "ligne 2, champ payments.0.cents : il faut un nombre entier",
    ),
    "cents below 0": (
        line(payments=[{**PAYMENT, "cents": -1}]),
        "ligne 2, champ payments.0.cents : valeur trop petite",
    ),
    "more than can be said": (
        line(debts=[{"code": "rsa", "left": 100_000_001}]),
        "ligne 2, champ debts.0.left : valeur trop grande",
    ),
    "a day that is none": (
        line(letters=[{"code": "droits", "sent_on": "2021-02-30"}]),
        f"ligne 2, champ letters.0.sent_on : {NO_DATE}",
    ),
    "a day of another century": (
        line(letters=[{"code": "droits", "sent_on": "0021-02-03"}]),
        "ligne 2, champ letters.0.sent_on : valeur trop petite",
    ),
    "a day as a number": (
        line(letters=[{"code": "droits", "sent_on": 20_210_230}]),
        f"ligne 2, champ letters.0.sent_on : {NO_DATE}",
    ),
    "a month that is none": (
        line(quotient=[{"value": 1, "month": "2021-13"}]),
        "ligne 2, champ quotient.0.month : forme inattendue",
    ),
    "two quotients": (
        line(quotient=[{"value": 1, "month": "2021-10"}] * 2),
        "ligne 2, champ quotient : 1 au plus",
    ),
    "a code that is not ours": (
        line(rights=[{"code": "apm", "since": "2021-01-01"}]),
        f"ligne 2, champ rights.0.code : {UNKNOWN_CODE.format('droit')}",
    ),
    "a code of another kind": (
        line(payments=[{**PAYMENT, "payee": "rsa"}]),
        f"ligne 2, champ payments.0.payee : {UNKNOWN_CODE.format('destinataire')}",
    ),
    "words for a code": (
        line(alerts=[{"code": SECRET}]),
        "ligne 2, champ alerts.0.code : forme inattendue",
    ),
    "a way out of the prompts": (
        line(alerts=[{"code": "../../etc/passwd"}]),
        "ligne 2, champ alerts.0.code : forme inattendue",
    ),
    "an end without a reason": (
        line(rights=[{"code": "apl", "since": "2021-01-01", "ended_on": "2021-02-01"}]),
        "ligne 2, champ rights.0 : ended_on et reason vont ensemble",
    ),
    "an appointment at a minute that is not said": (
        line(appointments=[{"at": "2021-11-12T14:31:00+01:00", "place": "accueil"}]),
        "ligne 2, champ appointments.0.at : heure attendue à cinq minutes près",
    ),
    "an appointment in the time of Greenwich": (
        line(appointments=[{"at": "2021-11-12T13:30:00Z", "place": "accueil"}]),
        f"ligne 2, champ appointments.0.at : {NO_OFFSET}",
    ),
    "101 items": (
        line(alerts=[{"code": "controle"}] * 101),
        "ligne 2, champ alerts : 100 au plus",
    ),
    "more kept back than can be said in one go": (
        line(payments=[{**PAYMENT, "withheld": [{"cents": 1, "reason": "saisie"}] * 6}]),
        "ligne 2, champ payments.0.withheld : 5 au plus",
    ),
    "a certificate for no month": (
        line(certificates=[{"kind": "paiement", "months": []}]),
        "ligne 2, champ certificates.0.months : il en faut 1 au moins",
    ),
    "an unknown dossier": (
        line(number=OTHER_NUMBER),
        "ligne 2, champ number : dossier inconnu",
    ),
    "delays that end before they begin": (
        {**DELAYS, "delays": [{"category": "rsa-aah", "first": "2021-10-08",
                               "last": "2021-10-01"}]},
        "ligne 2, champ delays.0 : last vient avant first",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("bad", "finding"), FAULTS.values(), ids=FAULTS)
def test_a_bad_line_is_told_and_keeps_no_other_out(
    shop: Store, tmp_path: Path, bad: object, finding: str
) -> None:
    """By its number, a field and a rule; never by what it holds (D13)."""
    newer = line(as_of="2021-11-02T05:00:00+01:00", payments=[{**PAYMENT, "cents": 2}])
    result = take(shop, tmp_path, line(payments=[PAYMENT]), bad, newer)
    assert told(result) == [finding]
    assert counts(result) == (2, 0, 0, 1)
    assert cents(shop) == [2]
    assert SECRET not in repr(result)


def test_every_fault_of_a_line_is_told_and_counted_once(shop: Store, tmp_path: Path) -> None:
    result = take(shop, tmp_path, line(number="1", quotient=[{"value": -1, "month": "x"}]))
    assert told(result) == [
        "ligne 1, champ number : forme inattendue",
        "ligne 1, champ quotient.0.value : valeur trop petite",
        "ligne 1, champ quotient.0.month : forme inattendue",
    ]
    assert result.bad == 1


def test_a_line_of_a_gigabyte_is_passed_over_in_little_memory(
    shop: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Never more of it is in memory than a good line may have."""
    file = tmp_path / "depot.jsonl"
    with file.open("wb") as opened:
        opened.write(b'{"caisse": "')
        opened.seek(1 << 30)  # zeros, which take no room on the disk
        opened.write(b"\n" + json.dumps(line(payments=[PAYMENT])).encode())
    read: list[int] = []
    lines = dossier_import._lines

    class Counted:
        """A file that remembers how much was read at a time."""

        def __init__(self, opened: Any) -> None:
            self.opened = opened

        def readline(self, most: int) -> bytes:
            read.append(most)
            part: bytes = self.opened.readline(most)
            return part

    monkeypatch.setattr(dossier_import, "_lines", lambda opened: lines(Counted(opened)))  # type: ignore[arg-type]
    result = import_file(shop, file)
    assert told(result) == [f"ligne 1 : plus de {MOST_LINE_BYTES} octets"]
    assert (result.new, cents(shop)) == (1, [48_171])
    assert set(read) == {MOST_LINE_BYTES + 1}


def test_the_longest_line_there_may_be(shop: Store, tmp_path: Path) -> None:
    text = json.dumps(line(payments=[PAYMENT])).encode()
    spaced = text[:-1] + b" " * (MOST_LINE_BYTES - len(text) - 1) + b"}"
    assert counts(take(shop, tmp_path, spaced)) == (1, 0, 0, 0)
    assert counts(take(shop, tmp_path, spaced[:-1] + b" }")) == (0, 0, 0, 1)


def test_blank_lines_and_a_byte_order_mark_are_nothing(shop: Store, tmp_path: Path) -> None:
    text = b"\xef\xbb\xbf" + json.dumps(line(payments=[PAYMENT])).encode() + b"\r\n\n  \n"
    assert counts(take(shop, tmp_path, text)) == (1, 0, 0, 0)


def test_an_empty_file_is_no_fault(shop: Store, tmp_path: Path) -> None:
    assert counts(take(shop, tmp_path)) == (0, 0, 0, 0)


def test_of_very_many_faults_some_are_told_and_all_counted(shop: Store, tmp_path: Path) -> None:
    result = take(shop, tmp_path, *[b"{}"] * (MOST_FINDINGS + 5))
    assert (len(result.findings), result.bad) == (MOST_FINDINGS, MOST_FINDINGS + 5)


def test_what_can_not_be_read_is_named(shop: Store, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"absent\.jsonl: ne peut pas être lu"):
        import_file(shop, tmp_path / "absent.jsonl")
    with pytest.raises(SettingsError, match="n'est pas un fichier ordinaire"):
        import_file(shop, Path("/dev/null"))


# Batches, kills, several at once


def _lines(numbers: Sequence[str], amount: int = 1, hour: int = 4) -> list[dict[str, Any]]:
    as_of = f"2021-11-02T{hour:02}:00:00+01:00"
    payments = [{**PAYMENT, "cents": amount}]
    return [line(number=number, as_of=as_of, payments=payments) for number in numbers]


def _add_accounts(store: Store, many: int) -> list[str]:
    numbers = [f"{n:07}" for n in range(many)]
    for number in numbers:
        add_account(store, number, password=None)
    execute(store, lambda t: t.execute(delete(DossierSection)))
    return numbers


def test_more_lines_than_a_batch(store: Store, tmp_path: Path) -> None:
    numbers = _add_accounts(store, BATCH + 1)
    steps: list[tuple[int, int]] = []
    file = write(tmp_path, *_lines(numbers))
    result = import_file(store, file, lambda done, of: steps.append((done, of)))
    assert counts(result) == (BATCH + 1, 0, 0, 0)
    assert len(_rows(store)) == BATCH + 1
    size = file.stat().st_size
    assert [*steps] == sorted(steps)
    assert steps[-1] == (size, size)


def _import_and_die(place: Place, file: Path, batches: int) -> None:
    """Import, and be killed in the middle of a later batch, when its rows are written."""
    store, done = place.open(), [0]
    keep = dossier_store.keep

    def keep_or_die(*arguments: Any) -> Any:
        kept = keep(*arguments)
        done[0] += 1
        if done[0] > batches:
            os.kill(os.getpid(), signal.SIGKILL)
        return kept

    with patch.object(dossier_store, "keep", keep_or_die):
        import_file(store, file)


@pytest.mark.parametrize("batches", [0, 1])
def test_an_import_that_is_killed_leaves_whole_batches_and_is_run_again(
    place: Place, tmp_path: Path, batches: int
) -> None:
    store = place.open()
    numbers = _add_accounts(store, 2 * BATCH)
    file = write(tmp_path, *_lines(numbers))
    store.close()
    process = multiprocessing.get_context("fork").Process(
        target=_import_and_die, args=(place, file, batches)
    )
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    store = place.open()
    assert len(_rows(store)) == batches * BATCH
    result = import_file(store, file)
    assert counts(result) == ((2 - batches) * BATCH, batches * BATCH, 0, 0)
    assert len(_rows(store)) == 2 * BATCH
    store.close()


def _import_rank(store: Store, rank: int) -> int:
    """Import the same dossiers as the others, as of another hour, in another order."""
    with store.database.read() as transaction:
        numbers = list(transaction.scalars(select(Account.number).order_by(Account.number)))
    lines = _lines(numbers[::-1] if rank % 2 else numbers, amount=rank + 1, hour=rank)
    assert store.keys.path is not None
    folder = store.keys.path.parent / str(rank)
    folder.mkdir()
    return import_file(store, write(folder, *lines)).bad


def test_of_several_imports_at_once_the_newest_data_stays(place: Place) -> None:
    store = place.open()
    _add_accounts(store, BATCH + 50)
    assert run_together(place, 4, _import_rank) == [0] * 4
    with store.database.read() as transaction:
        as_ofs = set(transaction.scalars(select(DossierSection.as_of)))
        rows = transaction.scalar(select(func.count()).select_from(DossierSection))
    assert as_ofs == {datetime.fromisoformat("2021-11-02T03:00:00+01:00")}
    assert rows == BATCH + 50
    store.close()


# A folder


def test_a_folder_gives_its_whole_files_in_the_order_of_their_names(tmp_path: Path) -> None:
    now = 1_000_000.0
    for name, age in (("b.jsonl", 10), ("a.jsonl", 2), ("new.jsonl", 1), ("c.json", 10)):
        (tmp_path / name).write_bytes(b"")
        os.utime(tmp_path / name, (now - age, now - age))
    (tmp_path / "folder.jsonl").mkdir()
    (tmp_path / "link.jsonl").symlink_to("b.jsonl")
    (tmp_path / ".hidden.jsonl").write_bytes(b"")
    assert [file.name for file in files_of(tmp_path, now)] == ["a.jsonl", "b.jsonl"]
    assert files_of(tmp_path / "new.jsonl", now) == [tmp_path / "new.jsonl"]


def test_what_was_taken_is_put_away(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    file.write_bytes(b"")
    put_away(file)
    assert (tmp_path / "done" / "a.jsonl").exists()
    assert files_of(tmp_path, 0.0) == []
