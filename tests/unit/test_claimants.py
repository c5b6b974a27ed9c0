"""Claimants read from a CSV file: what is accepted, what is refused, what is stored."""

import re
import traceback
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from sqlalchemy import func, select

from shared import claimants, credentials, disclosure
from shared.claimants import COLUMNS, ImportResult, import_claimants
from shared.csv_file import Finding, ImportRefusedError
from shared.errors import SettingsError, StoreError
from shared.keyring import KeyRing
from shared.models import Account, AuditEntry, Person
from shared.people import Address, PersonData, blind_indexes, open_person
from shared.secret import Secret
from shared.store import Store
from tests.store import FakeClock, log_in, with_rules

GUIDE = (Path(__file__).parents[2] / "docs" / "claimants.md").read_text(encoding="utf-8")

# Formats are checked before the store is touched: one database shows enough.
one_database = pytest.mark.parametrize("url", ["sqlite"], indirect=True)

TODAY = date(2021, 11, 2)  # the test clock's day

# The examples of python-stdnum and of the INSEE: real keys of invented people.
NIR = "295109912611193"
NIR_2A = "253072A07300443"
NIR_2B = "253072B07300470"

CLAIRE = {
    "caisse": "75",
    "numero": "0123456",
    "role": "allocataire",
    "situation": "affilie",
    "nir": NIR,
    "nom": "Lefèvre",
    "prenoms": "Claire",
    "naissance": "1995-10-07",
    "mobile": "06 12 34 56 78",
    "fixe": "01 40 00 00 01",
    "email": "claire@exemple.fr",
    "adresse1": "3 rue des Lilas",
    "code_postal": "75012",
    "ville": "Paris",
}
HUGO = {
    "caisse": "75",
    "numero": "0123456",
    "role": "conjoint",
    "situation": "affilie",
    "nom": "Petit",
    "prenoms": "Hugo",
    "naissance": "1990-04-05",
}


def line(row: dict[str, str], **changes: str) -> str:
    """Give one line of a file."""
    return ";".join((row | changes).get(column, "") for column in COLUMNS)


def file_of(folder: Path, *lines: str | bytes) -> Path:
    """Write a file of those lines under the usual header."""
    path = folder / "allocataires.csv"
    whole = (";".join(COLUMNS), *lines)
    path.write_bytes(b"".join(_encoded(text) + b"\n" for text in whole))
    return path


def _encoded(text: str | bytes) -> bytes:
    return text.encode() if isinstance(text, str) else text


def findings(store: Store, path: Path) -> list[Finding]:
    """Import a file that is to be refused; give what was found, once nothing is stored."""
    before = people(store)
    with pytest.raises(ImportRefusedError) as refused:
        import_claimants(store, path)
    assert people(store) == before
    return refused.value.findings


def people(store: Store) -> list[PersonData]:
    """Give everybody in the store, by name."""
    with store.database.read() as transaction:
        found = [open_person(store.keys, person) for person in transaction.scalars(select(Person))]
    return sorted(found, key=lambda data: data.surname or "")


def only_person(store: Store) -> PersonData:
    [person] = people(store)
    return person


# What is accepted


def test_a_line_is_stored_whole(store: Store, tmp_path: Path) -> None:
    row = line(CLAIRE, adresse2="bât. B", mobile_depuis="2020-03-01", adresse_depuis="2019-09-30")
    assert import_claimants(store, file_of(tmp_path, row)) == ImportResult(1, 0, 0)
    assert only_person(store) == PersonData(
        surname="Lefèvre",
        given_names="Claire",
        birth_date=date(1995, 10, 7),
        nir="2951099126111",
        mobile="+33612345678",
        mobile_since=date(2020, 3, 1),
        landline="+33140000001",
        email="claire@exemple.fr",
        address=Address("3 rue des Lilas", "bât. B", "75012", "Paris"),
        address_since=date(2019, 9, 30),
    )
    with store.database.read() as transaction:
        account = transaction.scalars(select(Account)).one()
        person = transaction.scalars(select(Person)).one()
    assert (account.caisse, account.number) == ("75", "0123456")
    assert (account.situation, account.created_at) == ("affilie", store.clock())
    assert (person.account_id, person.role) == (account.id, "allocataire")


@one_database
@pytest.mark.parametrize(
    ("column", "cell", "field", "value"),
    [
        pytest.param("nir", NIR[:13], "nir", "2951099126111", id="NIR without its key"),
        pytest.param("nir", "2 95 10 99 126 111 93", "nir", "2951099126111", id="NIR with spaces"),
        pytest.param("nir", NIR_2A, "nir", "253072A073004", id="NIR of Corse-du-Sud"),
        pytest.param("nir", NIR_2B.lower(), "nir", "253072B073004", id="NIR of Haute-Corse"),
        pytest.param("mobile", "+33612345678", "mobile", "+33612345678", id="E.164"),
        pytest.param("mobile", "612345678", "mobile", "+33612345678", id="spreadsheet ate the 0"),
        pytest.param("mobile", "0692123456", "mobile", "+262692123456", id="mobile of Réunion"),
        pytest.param("mobile", "+4915112345678", "mobile", "+4915112345678", id="foreign mobile"),
        pytest.param("mobile", "+15142345678", "mobile", "+15142345678", id="mobile of Canada"),
        pytest.param("fixe", "0262123456", "landline", "+262262123456", id="landline of Réunion"),
        pytest.param("fixe", "0970123456", "landline", "+33970123456", id="number of a box"),
        pytest.param("nom", " Lefèvre ", "surname", "Lefèvre", id="spaces around"),
        pytest.param("nom", "de\u00a0La\u202fTour", "surname", "de La Tour", id="no-break spaces"),
        pytest.param("nom", "Lefe\u0300vre", "surname", "Lef\u00e8vre", id="composed accents"),
        pytest.param("nom", '"Du; Bois"', "surname", "Du; Bois", id="quoted separator"),
        pytest.param("nom", '"Le ""Grand"""', "surname", 'Le "Grand"', id="doubled quotes"),
        pytest.param("naissance", "2021-11-02", "birth_date", TODAY, id="born today"),
    ],
)
def test_formats_accepted(
    store: Store, tmp_path: Path, *, column: str, cell: str, field: str, value: object
) -> None:
    import_claimants(store, file_of(tmp_path, line(CLAIRE, **{column: cell})))
    assert getattr(only_person(store), field) == value


@one_database
@pytest.mark.parametrize("caisse", ["01", "59", "95", "2A", "2B", "971", "974", "976", "641"])
def test_caisses_accepted(store: Store, tmp_path: Path, caisse: str) -> None:
    assert import_claimants(store, file_of(tmp_path, line(CLAIRE, caisse=caisse))).created == 1


def test_a_file_as_a_spreadsheet_writes_it(store: Store, tmp_path: Path) -> None:
    """With a byte order mark, CRLF, columns in another order, and rows of empty cells."""
    columns = sorted(COLUMNS)
    rows = [dict(zip(columns, columns, strict=True)), CLAIRE, {}, HUGO, {}]
    text = "".join(";".join(row.get(column, "") for column in columns) + "\r\n" for row in rows)
    path = tmp_path / "allocataires.csv"
    path.write_bytes(b"\xef\xbb\xbf" + text.encode() + b"\r\n\r\n")
    assert import_claimants(store, path) == ImportResult(2, 0, 0)
    assert [person.surname for person in people(store)] == ["Lefèvre", "Petit"]


def test_a_file_without_people_changes_nothing(store: Store, tmp_path: Path) -> None:
    assert import_claimants(store, file_of(tmp_path)) == ImportResult(0, 0, 0)


@one_database
def test_the_documented_example_is_accepted(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "allocataires.csv"
    path.write_text(re.findall(r"```csv\n(.*?)```", GUIDE, re.DOTALL)[0], encoding="utf-8")
    assert import_claimants(store, path) == ImportResult(3, 0, 0)


def test_every_column_is_documented() -> None:
    described = re.findall(r"^\| `(\w+)` \| (?:yes|no|see)", GUIDE, re.MULTILINE)
    assert described == list(COLUMNS)


# What is refused

REFUSED_CELLS = [
    ("caisse", "", "valeur obligatoire"),
    ("caisse", "00", "code de caisse inconnu"),
    ("caisse", "20", "code de caisse inconnu"),
    ("caisse", "64", "code de caisse inconnu"),
    ("caisse", "643", "code de caisse inconnu"),
    ("caisse", "96", "code de caisse inconnu"),
    ("caisse", "97", "code de caisse inconnu"),
    ("caisse", "975", "code de caisse inconnu"),
    ("caisse", "1", "code de caisse inconnu"),
    ("numero", "", "valeur obligatoire"),
    ("numero", "123456", "7 chiffres attendus"),
    ("numero", "12345678", "7 chiffres attendus"),
    ("numero", "012345A", "7 chiffres attendus"),
    ("numero", "٠١٢٣٤٥٦", "7 chiffres attendus"),
    ("role", "", "valeur obligatoire"),
    (
        "role",
        "Allocataire",
        "attendu : allocataire, conjoint, conjoint-allocataire, autre, tuteur",
    ),
    (  # R31: an organisation has the partner space, and no way in here
        "role",
        "tuteur-organisme",
        "attendu : allocataire, conjoint, conjoint-allocataire, autre, tuteur",
    ),
    ("situation", "", "valeur obligatoire"),
    ("situation", "radie", "attendu : affilie, primo-demandeur"),
    ("nir", "295109912611194", "clé de contrôle fausse"),
    ("nir", "595109912611193", "13 ou 15 caractères attendus, commençant par 1, 2, 3, 4, 7 ou 8"),
    ("nir", "29510991261119", "13 ou 15 caractères attendus, commençant par 1, 2, 3, 4, 7 ou 8"),
    ("nir", "253072C073004", "13 ou 15 caractères attendus, commençant par 1, 2, 3, 4, 7 ou 8"),
    ("nir", "2,95E+14", "13 ou 15 caractères attendus, commençant par 1, 2, 3, 4, 7 ou 8"),
    ("nom", "", "valeur obligatoire"),
    ("nom", "---", "ne doit pas commencer par =, +, - ou @"),
    ("nom", "42", "un nom contient au moins une lettre"),
    ("nom", "N" * 101, "plus de 100 caractères"),
    ("nom", '=HYPERLINK("x")', "ne doit pas commencer par =, +, - ou @"),
    ("nom", "@SUM(A1)", "ne doit pas commencer par =, +, - ou @"),
    ("nom", "Le\x00fevre", "caractère de contrôle ou invisible"),
    ("nom", "\tLefevre", "caractère de contrôle ou invisible"),
    ("nom", "Le\tfevre", "caractère de contrôle ou invisible"),
    ("nom", "Le\u202efevre", "caractère de contrôle ou invisible"),
    ("nom", '"Le\rfevre"', "caractère de contrôle ou invisible"),
    ("naissance", "07/10/1995", "date attendue sous la forme AAAA-MM-JJ"),
    ("naissance", "19951007", "date attendue sous la forme AAAA-MM-JJ"),
    ("naissance", "813024000", "date attendue sous la forme AAAA-MM-JJ"),
    ("naissance", "1995-02-30", "cette date n'existe pas"),
    ("naissance", "2021-11-03", "date à venir"),
    ("mobile", "0140000001", "numéro de mobile attendu"),
    ("mobile", "0700000000", "numéro de téléphone non valide"),
    ("mobile", "3230", "numéro de téléphone non valide"),
    ("mobile", "06 12 34 56 78 poste 4", "numéro de téléphone non valide"),
    ("mobile", "=0612345678", "numéro de téléphone non valide"),
    ("mobile_depuis", "2021-11-03", "date à venir"),
    ("fixe", "+4930123456", "numéro français attendu"),
    ("fixe", "01400000", "numéro de téléphone non valide"),
    ("email", "claire", "adresse électronique attendue"),
    ("email", "claire@exemple", "adresse électronique attendue"),
    ("email", "claire@exemple.fr, h@exemple.fr", "adresse électronique attendue"),
    ("email", "=c@exemple.fr", "ne doit pas commencer par =, +, - ou @"),
    ("email", "c" * 250 + "@e.fr", "plus de 254 caractères"),
    ("adresse1", "-2+3+cmd|' /C calc'!A0", "ne doit pas commencer par =, +, - ou @"),
    ("code_postal", "7501", "5 chiffres attendus"),
    ("adresse_depuis", "en 2020", "date attendue sous la forme AAAA-MM-JJ"),
]


@one_database
@pytest.mark.parametrize(("column", "cell", "reason"), REFUSED_CELLS)
def test_cells_refused(store: Store, tmp_path: Path, column: str, cell: str, reason: str) -> None:
    path = file_of(tmp_path, line(CLAIRE, **{column: cell}))
    assert findings(store, path) == [Finding(2, column, reason)]


BAD_CELL = "guillemet mal placé ou saut de ligne dans une cellule"

# What is read; which column is named, and why.
LINES_REFUSED = {
    "too few columns": ("75;0123456", None, "2 colonnes au lieu de 17"),
    "too many columns": (line(CLAIRE) + ";", None, "18 colonnes au lieu de 17"),
    "Latin-1": (line(CLAIRE).encode("latin-1"), None, "n'est pas en UTF-8"),
    "a huge cell": (line(CLAIRE, nom="N" * 1_000_000), None, "plus de 16384 octets"),
    "quote left open": (
        line(CLAIRE, nom='"Lefevre'),
        None,
        BAD_CELL,
    ),
    "text after a quote": (
        line(CLAIRE, nom='"Le" fevre'),
        None,
        BAD_CELL,
    ),
    "carriage return in a cell": (
        line(CLAIRE, nom="Le\rfevre"),
        None,
        BAD_CELL,
    ),
    "nothing identifies the person": (
        line(CLAIRE, nir="", naissance=""),
        "naissance",
        "obligatoire sans NIR",
    ),
    "date of no mobile": (
        line(CLAIRE, mobile="", mobile_depuis="2020-03-01"),
        "mobile",
        "obligatoire avec mobile_depuis",
    ),
    "no postcode": (line(CLAIRE, code_postal=""), "code_postal", "obligatoire avec adresse1"),
    "date of no address": (
        line(HUGO, adresse_depuis="2020-03-01"),
        "adresse1",
        "obligatoire avec adresse_depuis",
    ),
}


@one_database
@pytest.mark.parametrize(("bad", "column", "reason"), LINES_REFUSED.values(), ids=LINES_REFUSED)
def test_lines_refused(
    store: Store, tmp_path: Path, bad: str | bytes, column: str | None, reason: str
) -> None:
    assert findings(store, file_of(tmp_path, bad)) == [Finding(2, column, reason)]


def test_a_line_break_in_a_cell_spoils_no_other_line(store: Store, tmp_path: Path) -> None:
    path = file_of(tmp_path, line(CLAIRE, ville='"Paris\nCedex"'), line(HUGO, nom=""))
    assert {(finding.line, finding.column) for finding in findings(store, path)} == {
        (2, None),
        (3, None),
        (4, "nom"),
    }


@one_database
@pytest.mark.parametrize(
    ("content", "reasons"),
    [
        pytest.param(b"", ["fichier vide"], id="empty"),
        pytest.param(b"\xef\xbb\xbf\r\n", ["fichier vide"], id="only a byte order mark"),
        pytest.param(
            ";".join((*COLUMNS, "nir")).encode(), ["en-tête : colonne nir en double"], id="twice"
        ),
        pytest.param(
            ";".join(COLUMNS[2:]).encode(), ["en-tête : il manque caisse, numero"], id="missing"
        ),
        pytest.param(
            ";".join((*COLUMNS, "sexe")).encode(), ["en-tête : colonne 18 inconnue"], id="unknown"
        ),
        pytest.param(
            ",".join(COLUMNS).encode(),
            ["en-tête : colonne 1 inconnue", "en-tête : il manque " + ", ".join(COLUMNS)],
            id="commas",
        ),
        pytest.param(
            ";".join(COLUMNS).encode("utf-16"), ["n'est pas en UTF-8"], id="UTF-16 of a spreadsheet"
        ),
    ],
)
def test_headers_refused(store: Store, tmp_path: Path, content: bytes, reasons: list[str]) -> None:
    path = tmp_path / "allocataires.csv"
    path.write_bytes(content)
    assert findings(store, path) == [Finding(1, None, reason) for reason in reasons]


SAME_PERSON = "même personne qu'à la ligne 2"

# What comes after Claire's line; which column is named, and why.
CONTRADICTIONS = {
    "same NIR": (line(CLAIRE, nom="Autre", naissance=""), None, SAME_PERSON),
    "same civil status": (
        line(CLAIRE, nir="", nom="LEFEVRE"),
        None,
        SAME_PERSON,
    ),
    "two allocataires": (
        line(CLAIRE, nir=NIR_2A, nom="Autre"),
        "role",
        "le dossier a déjà un allocataire, ligne 2",
    ),
    "two situations": (
        line(HUGO, situation="primo-demandeur"),
        "situation",
        "n'est pas celle du dossier à la ligne 2",
    ),
}


@one_database
@pytest.mark.parametrize(
    ("second", "column", "reason"), CONTRADICTIONS.values(), ids=CONTRADICTIONS
)
def test_lines_that_contradict_each_other(
    store: Store, tmp_path: Path, second: str, column: str | None, reason: str
) -> None:
    path = file_of(tmp_path, line(CLAIRE), second)
    assert findings(store, path) == [Finding(3, column, reason)]


@pytest.mark.parametrize(
    "second",
    [
        pytest.param(line(CLAIRE, caisse="59"), id="same number and person in another caisse"),
        pytest.param(line(CLAIRE, numero="0123457"), id="same person in another dossier"),
        pytest.param(line(CLAIRE, role="tuteur"), id="same person in another role"),
        pytest.param(line(HUGO, nom="Lefèvre", prenoms="Claire"), id="namesake"),
    ],
)
def test_lines_that_do_not(store: Store, tmp_path: Path, second: str) -> None:
    path = file_of(tmp_path, line(CLAIRE), second)
    assert import_claimants(store, path) == ImportResult(2, 0, 0)


def test_every_bad_line_is_reported_by_its_number_in_the_file(store: Store, tmp_path: Path) -> None:
    path = file_of(
        tmp_path,
        line(CLAIRE, caisse="20", nom=""),
        "",
        line(HUGO, mobile="1", code_postal="75012"),
        line(CLAIRE, numero="0123458"),
        "un mot",
    )
    found = [(finding.line, finding.column) for finding in findings(store, path)]
    assert sorted(found, key=str) == [
        (2, "caisse"),
        (2, "nom"),
        (4, "adresse1"),
        (4, "mobile"),
        (6, None),
    ]


def test_the_error_says_how_many_and_which_is_the_first(store: Store, tmp_path: Path) -> None:
    path = file_of(tmp_path, line(CLAIRE, nom=""), line(HUGO, caisse="20"))
    with pytest.raises(ImportRefusedError) as refused:
        import_claimants(store, path)
    assert str(refused.value) == (
        "fichier refusé, 2 anomalie(s) ; ligne 2, colonne nom : valeur obligatoire"
    )


def test_a_file_that_cannot_be_read(store: Store, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="ne peut pas être lu"):
        import_claimants(store, tmp_path / "absent.csv")


# What is never said


@one_database
@pytest.mark.parametrize("column", COLUMNS)
def test_a_refusal_quotes_nothing_of_the_line(tmp_path: Path, store: Store, column: str) -> None:
    bad = CLAIRE | {column: "=Lefèvre 0123456"}
    with pytest.raises(ImportRefusedError) as refused:
        import_claimants(store, file_of(tmp_path, line(bad)))
    said = "".join(traceback.format_exception(refused.value)) + repr(refused.value.findings)
    personal = set(bad.values()) - {"allocataire", "affilie"}  # words of the format
    assert not any(value in said for value in personal | {"Lefèvre", "0123456"})


def test_a_header_that_is_a_persons_line_is_not_quoted(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "allocataires.csv"
    path.write_text(line(CLAIRE), encoding="utf-8")
    said = str(findings(store, path))
    assert not any(value in said for value in (NIR, "Lefèvre", "Claire", "0123456", "Lilas"))


def test_a_row_shows_none_of_its_values() -> None:
    row = claimants.Row.model_validate(CLAIRE, context={"today": TODAY})
    assert (repr(row), str(row)) == ("Row()", "")


def test_what_a_row_refuses_is_not_in_the_error() -> None:
    with pytest.raises(ValidationError) as refused:
        claimants.Row.model_validate(CLAIRE | {"nir": "1234567"}, context={"today": TODAY})
    assert "1234567" not in f"{refused.value} {refused.value!r}"


def test_the_database_refusing_a_row_says_nothing_of_it(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Had the look-up missed somebody, the unique constraint still would not."""
    path = file_of(tmp_path, line(HUGO))
    import_claimants(store, path)
    monkeypatch.setattr(claimants, "_find", lambda *_: None)
    with pytest.raises(StoreError) as refused:
        import_claimants(store, path)
    assert str(refused.value) == "la base de données a refusé une ligne qui enfreint une contrainte"
    assert len(people(store)) == 1


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    lines=st.lists(
        st.one_of(
            st.binary(max_size=60),
            st.lists(st.text(max_size=12), min_size=17, max_size=17).map(";".join),
            st.builds(
                lambda column, cell: line(CLAIRE, **{column: cell}),
                st.sampled_from(COLUMNS),
                st.text(max_size=20),
            ),
        ),
        max_size=4,
    )
)
def test_no_file_does_anything_but_import_or_be_refused(
    store: Store, tmp_path: Path, lines: list[str | bytes]
) -> None:
    path = file_of(
        tmp_path,
        *(x if isinstance(x, bytes) else x.encode("utf-8", "surrogatepass") for x in lines),
    )
    before = len(people(store))
    try:
        created = import_claimants(store, path).created
    except ImportRefusedError:
        created = 0
    assert len(people(store)) == before + created


# What is stored the next time


def test_importing_twice_changes_nothing(store: Store, clock: FakeClock, tmp_path: Path) -> None:
    path = file_of(tmp_path, line(CLAIRE), line(HUGO))
    assert import_claimants(store, path) == ImportResult(2, 0, 0)
    before = people(store)
    clock.advance(timedelta(days=1))
    assert import_claimants(store, path) == ImportResult(0, 0, 2)
    assert people(store) == before


def test_created_updated_and_unchanged_are_counted(store: Store, tmp_path: Path) -> None:
    import_claimants(store, file_of(tmp_path, line(CLAIRE), line(HUGO)))
    path = file_of(
        tmp_path,
        line(CLAIRE),
        line(HUGO, email="hugo@exemple.fr"),
        line(HUGO, nom="Neuve", role="autre"),
    )
    assert import_claimants(store, path) == ImportResult(created=1, updated=1, unchanged=1)


def test_an_import_is_audited_by_its_counts(store: Store, tmp_path: Path) -> None:
    """D15: a refused one, which changed nothing, is not."""
    import_claimants(store, file_of(tmp_path, line(CLAIRE), line(HUGO)))
    import_claimants(store, file_of(tmp_path, line(CLAIRE, mobile=""), line(HUGO)))
    findings(store, file_of(tmp_path, line(HUGO), line(HUGO, role="allocataire")))
    with store.database.read() as transaction:
        rows = transaction.execute(
            select(AuditEntry.actor, AuditEntry.account_id)
            .where(AuditEntry.event == "claimants-imported")
            .order_by(AuditEntry.id)
        ).all()
    assert [(actor, account) for actor, account in rows] == [
        ("created:2 updated:0 unchanged:0 closed:0", None),
        ("created:0 updated:1 unchanged:1 closed:0", None),
    ]


def test_lines_of_a_closed_dossier_are_left_aside(store: Store, tmp_path: Path) -> None:
    """D16: whoever was erased stays so, though the file still names them; others come in."""
    import_claimants(store, file_of(tmp_path, line(CLAIRE)))
    disclosure.erase(store, CLAIRE["caisse"], CLAIRE["numero"])
    elsewhere = line(HUGO, numero="7654321")
    path = file_of(tmp_path, line(CLAIRE), line(HUGO), elsewhere)
    assert import_claimants(store, path) == ImportResult(1, 0, 0, closed=2)
    assert [person.surname for person in people(store)] == [None, "Petit"]


def test_people_who_are_not_in_the_file_stay(store: Store, tmp_path: Path) -> None:
    import_claimants(store, file_of(tmp_path, line(CLAIRE), line(HUGO)))
    import_claimants(store, file_of(tmp_path, line(HUGO)))
    assert [person.surname for person in people(store)] == ["Lefèvre", "Petit"]


@pytest.mark.parametrize(
    ("row", "result"),
    [
        pytest.param(line(CLAIRE), ImportResult(0, 1, 0), id="by a line of the same person"),
        pytest.param(line(HUGO), ImportResult(1, 0, 0), id="by a line of somebody new"),
    ],
)
def test_the_situation_of_a_dossier_changes(
    store: Store, tmp_path: Path, row: str, result: ImportResult
) -> None:
    import_claimants(store, file_of(tmp_path, line(CLAIRE, situation="primo-demandeur")))
    assert import_claimants(store, file_of(tmp_path, row)) == result
    with store.database.read() as transaction:
        assert transaction.scalars(select(Account.situation)).one() == "affilie"


@pytest.mark.parametrize(
    ("first", "then", "field", "value"),
    [
        pytest.param({}, {"nom": "Martin"}, "surname", "Martin", id="new name, same NIR"),
        pytest.param(
            {"nir": ""}, {"nir": NIR}, "nir", "2951099126111", id="NIR learnt, same civil status"
        ),
        pytest.param(
            {"nir": NIR_2A}, {"nir": NIR}, "nir", "2951099126111", id="NIR corrected, same status"
        ),
        pytest.param({}, {"nir": ""}, "nir", "2951099126111", id="empty NIR: kept"),
        pytest.param(
            {}, {"naissance": ""}, "birth_date", date(1995, 10, 7), id="empty birth date: kept"
        ),
        pytest.param({}, {"prenoms": ""}, "given_names", "Claire", id="empty given names: kept"),
        pytest.param({}, {"nom": "LEFEVRE"}, "surname", "LEFEVRE", id="spelling corrected"),
        pytest.param({}, {"mobile": ""}, "mobile", None, id="empty mobile: taken away"),
        pytest.param({}, {"fixe": ""}, "landline", None, id="empty landline: taken away"),
        pytest.param({}, {"email": ""}, "email", None, id="empty mail: taken away"),
        pytest.param(
            {},
            {"adresse1": "", "code_postal": "", "ville": ""},
            "address",
            None,
            id="empty address: taken away",
        ),
    ],
)
def test_the_same_person_is_found_and_updated(
    store: Store,
    tmp_path: Path,
    *,
    first: dict[str, str],
    then: dict[str, str],
    field: str,
    value: object,
) -> None:
    import_claimants(store, file_of(tmp_path, line(CLAIRE, **first)))
    import_claimants(store, file_of(tmp_path, line(CLAIRE, **then)))
    assert getattr(only_person(store), field) == value


DATED = {"mobile_depuis": "2020-03-01", "adresse_depuis": "2020-03-01"}
NEW = {"mobile": "0698765432", "adresse1": "1 place Neuve"}


@pytest.mark.parametrize(
    ("first", "then", "since"),
    [
        pytest.param({}, {}, None, id="never changed, never dated"),
        pytest.param(DATED, {}, date(2020, 3, 1), id="same contact: its date is kept"),
        pytest.param(DATED, NEW, date(2021, 11, 12), id="new contact, no date: today"),
        pytest.param(
            {}, NEW | dict.fromkeys(DATED, "2021-11-05"), date(2021, 11, 5), id="new contact, dated"
        ),
        pytest.param({}, DATED, date(2020, 3, 1), id="date learnt later"),
    ],
)
def test_since_when_a_contact_is_on_file(
    store: Store,
    clock: FakeClock,
    tmp_path: Path,
    *,
    first: dict[str, str],
    then: dict[str, str],
    since: date | None,
) -> None:
    """D04 does not use a contact in its first 30 days."""
    import_claimants(store, file_of(tmp_path, line(CLAIRE, **first)))
    clock.advance(timedelta(days=10))
    import_claimants(store, file_of(tmp_path, line(CLAIRE, **then)))
    person = only_person(store)
    assert (person.mobile_since, person.address_since) == (since, since)


FIRST, SECOND, THIRD = "+33611111111", "+33622222222", "+33633333333"


@pytest.mark.parametrize(
    ("mobiles", "every", "before"),
    [
        pytest.param([FIRST], 40, None, id="the only one"),
        pytest.param([FIRST, FIRST], 40, None, id="never changed"),
        pytest.param([FIRST, SECOND], 10, FIRST, id="changed"),
        pytest.param([FIRST, SECOND, SECOND], 10, FIRST, id="changed, then read again"),
        pytest.param([FIRST, SECOND, THIRD], 10, FIRST, id="changed twice within 30 days"),
        pytest.param([FIRST, SECOND, THIRD], 29, FIRST, id="the last day that it is too new"),
        pytest.param([FIRST, SECOND, THIRD], 30, SECOND, id="the first day that it is trusted"),
        pytest.param([FIRST, "", THIRD], 10, FIRST, id="taken away, then another"),
        pytest.param([FIRST, ""], 10, FIRST, id="taken away"),
        pytest.param(["", SECOND], 10, None, id="the first there is"),
    ],
)
def test_the_last_trusted_mobile_is_kept(
    store: Store,
    clock: FakeClock,
    tmp_path: Path,
    *,
    mobiles: list[str],
    every: int,
    before: str | None,
) -> None:
    """D04: who changes the mobile twice must not be sent a password at the first of the two."""
    for mobile in mobiles:
        clock.advance(timedelta(days=every))
        import_claimants(store, file_of(tmp_path, line(CLAIRE, mobile=mobile)))
    assert only_person(store).mobile_before == before


@pytest.mark.parametrize(
    ("streets", "every", "before"),
    [
        pytest.param(["1 rue A"], 40, None, id="the only one"),
        pytest.param(["1 rue A", "1 rue A"], 40, None, id="never changed"),
        pytest.param(["1 rue A", "2 rue B", "2 rue B"], 10, "1 rue A", id="changed, read again"),
        pytest.param(["1 rue A", "2 rue B", "3 rue C"], 29, "1 rue A", id="twice, too soon"),
        pytest.param(["1 rue A", "2 rue B", "3 rue C"], 30, "2 rue B", id="twice, 30 days apart"),
    ],
)
def test_the_last_trusted_address_is_kept(
    store: Store,
    clock: FakeClock,
    tmp_path: Path,
    *,
    streets: list[str],
    every: int,
    before: str | None,
) -> None:
    """D04: who changes the address twice must not get a letter at the first of the two."""
    for street in streets:
        clock.advance(timedelta(days=every))
        import_claimants(store, file_of(tmp_path, line(CLAIRE, adresse1=street)))
    kept = only_person(store).address_before
    assert (kept.line1 if kept else None) == before


@pytest.mark.parametrize(
    ("emails", "since"),
    [
        pytest.param(["a@exemple.fr"], None, id="the only one"),
        pytest.param(["a@exemple.fr", "a@exemple.fr"], None, id="never changed"),
        pytest.param(["a@exemple.fr", "b@exemple.fr"], date(2021, 11, 22), id="changed"),
        pytest.param(["", "b@exemple.fr"], date(2021, 11, 22), id="the first there is"),
        pytest.param(
            ["a@exemple.fr", "b@exemple.fr", "b@exemple.fr"],
            date(2021, 11, 22),
            id="changed, then read again",
        ),
    ],
)
def test_since_when_a_mail_address_is_on_file(
    store: Store, clock: FakeClock, tmp_path: Path, *, emails: list[str], since: date | None
) -> None:
    """D04: no code goes to one that was changed lately."""
    for email in emails:
        clock.advance(timedelta(days=10))
        import_claimants(store, file_of(tmp_path, line(CLAIRE, email=email)))
    assert only_person(store).email_since == since


def test_today_is_the_day_in_paris(store: Store, clock: FakeClock, tmp_path: Path) -> None:
    import_claimants(store, file_of(tmp_path, line(CLAIRE)))
    clock.now = datetime(2022, 1, 14, 23, 30, tzinfo=UTC)
    import_claimants(store, file_of(tmp_path, line(CLAIRE, **NEW)))
    assert only_person(store).mobile_since == date(2022, 1, 15)


# What is refused for what the store holds


def test_a_dossier_never_gets_a_second_allocataire(store: Store, tmp_path: Path) -> None:
    """An allocataire sees and does everything on the dossier (R26)."""
    import_claimants(store, file_of(tmp_path, line(CLAIRE)))
    path = file_of(tmp_path, line(HUGO, email="h@exemple.fr"), line(CLAIRE, nir=NIR_2A, nom="X"))
    assert findings(store, path) == [
        Finding(3, "role", "le dossier enregistré a un autre allocataire")
    ]


def test_a_line_never_merges_two_people(store: Store, tmp_path: Path) -> None:
    by_nir = line(HUGO, nir=NIR, nom="Autre", naissance="")
    import_claimants(store, file_of(tmp_path, by_nir, line(HUGO)))
    assert findings(store, file_of(tmp_path, line(HUGO, nir=NIR))) == [
        Finding(2, None, "NIR et état civil de deux personnes enregistrées")
    ]


def test_a_line_never_merges_somebody_with_a_person_of_the_same_file(
    store: Store, tmp_path: Path
) -> None:
    import_claimants(store, file_of(tmp_path, line(HUGO, nir=NIR, nom="Autre")))
    path = file_of(tmp_path, line(HUGO), line(HUGO, nir=NIR, naissance=""))
    assert findings(store, path) == [
        Finding(3, None, "NIR et état civil de deux personnes enregistrées")
    ]


def test_two_lines_never_change_the_same_person(store: Store, tmp_path: Path) -> None:
    import_claimants(store, file_of(tmp_path, line(HUGO, nir=NIR)))
    path = file_of(tmp_path, line(HUGO), line(HUGO, nir=NIR, nom="Autre", naissance=""))
    assert findings(store, path) == [Finding(3, None, "même personne enregistrée qu'à la ligne 2")]


# Many lines


def _household(number: int) -> Iterable[str]:
    numero = f"{number:07d}"
    yield line(CLAIRE, numero=numero)
    yield line(HUGO, numero=numero)


def test_a_household_may_be_split_between_batches(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claimants, "BATCH", 3)
    path = file_of(tmp_path, *(text for number in range(5) for text in _household(number)))
    assert import_claimants(store, path) == ImportResult(10, 0, 0)
    assert import_claimants(store, path) == ImportResult(0, 0, 10)
    with store.database.read() as transaction:
        assert transaction.scalar(select(func.count()).select_from(Account)) == 5


def test_a_refusal_in_the_last_batch_undoes_the_first(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claimants, "BATCH", 1)
    import_claimants(store, file_of(tmp_path, line(CLAIRE)))
    path = file_of(tmp_path, line(HUGO), line(CLAIRE, email="x@exemple.fr", nom="Z", nir=NIR_2A))
    assert [finding.line for finding in findings(store, path)] == [3]


def test_progress_goes_up_to_the_end(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claimants, "BATCH", 4)
    told: list[tuple[int, int]] = []
    path = file_of(tmp_path, *(text for number in range(5) for text in _household(number)))
    import_claimants(store, path, lambda done, steps: told.append((done, steps)))
    assert told == [(done, 20) for done in (0, 4, 8, 10, 14, 18, 20)]


def test_two_imports_at_once_create_everybody_once(store: Store, tmp_path: Path) -> None:
    path = file_of(tmp_path, *(text for number in range(50) for text in _household(number)))
    with ThreadPoolExecutor(2) as pool:
        results = list(pool.map(lambda _: import_claimants(store, path), range(2)))
    assert sorted(result.created for result in results) == [0, 100]
    assert sorted(result.unchanged for result in results) == [0, 100]


@pytest.mark.parametrize("row", [line(CLAIRE, nom="Lefebvre"), line(HUGO)], ids=["known", "new"])
def test_an_import_brings_back_nobody_who_is_erased_beside_it(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, row: str
) -> None:
    import_claimants(store, file_of(tmp_path, line(CLAIRE)))
    with ThreadPoolExecutor(1) as pool:
        erasing: list[Future[bool]] = []

        def erase_meanwhile(keys: KeyRing, data: PersonData) -> dict[str, bytes | None]:
            """Erase once the import has read what there is; it should have to wait."""
            erasing.append(pool.submit(disclosure.erase, store, CLAIRE["caisse"], CLAIRE["numero"]))
            wait(erasing, timeout=0.5)
            return blind_indexes(keys, data)

        monkeypatch.setattr(claimants, "blind_indexes", erase_meanwhile)
        import_claimants(store, file_of(tmp_path, row))
    assert erasing.pop().result()
    assert {person.surname for person in people(store)} == {None}


# What the rest of the store makes of it


@pytest.mark.parametrize("caller_id", ["+33612345678", "+33140000001"])
def test_a_caller_id_of_the_file_is_on_file(store: Store, tmp_path: Path, caller_id: str) -> None:
    """Known callers have failures of their own, strangers have none left here (D05)."""
    store = with_rules(store, account_failures=0)
    import_claimants(store, file_of(tmp_path, line(CLAIRE)))
    credentials.set_secret(store, "75", "0123456", Secret("83927415"))
    stranger = log_in(store, "83927415", number="0123456", caller_id="+33199009900")
    assert stranger == credentials.Refusal.REFUSED
    known = log_in(store, "83927415", number="0123456", caller_id=caller_id)
    assert not isinstance(known, credentials.Refusal)
