"""Files of recipients (R24), as they come: a clear French line for each fault, quoting nothing."""

from pathlib import Path

import pytest

from shared.campaigns import Plan, Recipient
from shared.csv_file import MAX_LINE_BYTES, Finding
from shared.errors import SettingsError
from shared.models import Route
from shared.recipients import MOST_FINDINGS, read_file
from sms.campaign_texts import CampaignTexts

TEXTS = CampaignTexts.load()
BY_SMS = Plan("a", Route.SMS, "notice.rendez-vous")
TO_READ = Plan("a", Route.SMS, "notice.message-a-lire")
BY_MAIL = Plan("a", Route.MAIL, text="Bonjour", sender="Caf", subject="Du nouveau")
HEADER = b"mobile;jour;heure\n"
LINE = b"06 12 34 56 78;mardi 3 mai;9 h 30\n"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "destinataires.csv"


def read(file: Path, content: bytes, plan: Plan = BY_SMS) -> tuple[list[Recipient], list[str]]:
    """Give the recipients, and what is said of the others."""
    file.write_bytes(content)
    findings: list[Finding] = []
    found = list(read_file(file, TEXTS, plan, findings))
    return found, [str(finding) for finding in findings]


def test_a_line_is_a_recipient(file: Path) -> None:
    [one], said = read(file, HEADER + LINE)
    assert said == []
    assert (one.contact.route, one.contact.value) == (Route.SMS, "+33612345678")
    assert one.variables == {"jour": "mardi 3 mai", "heure": "9 h 30"}
    assert one.zone == "Europe/Paris"


SAME = {
    "a BOM": b"\xef\xbb\xbf" + HEADER + LINE,
    "commas": b"mobile,jour,heure\n06 12 34 56 78,mardi 3 mai,9 h 30\n",
    "CR LF": (HEADER + LINE).replace(b"\n", b"\r\n"),
    "no last line break": (HEADER + LINE).rstrip(),
    "blank lines": HEADER + b"\n ; ; \n" + LINE + b"\r\n\n",
    "another order": b"heure;mobile;jour\n9 h 30;+33612345678;mardi 3 mai\n",
    "quotes": HEADER + b'"06 12 34 56 78";"mardi 3 mai";"9 h 30"\n',
}


@pytest.mark.parametrize("content", SAME.values(), ids=SAME)
def test_however_it_is_written(file: Path, content: bytes) -> None:
    found, said = read(file, content)
    assert said == []
    assert [one.contact.value for one in found] == ["+33612345678"]


def test_a_mail_s_departement_tells_its_hours(file: Path) -> None:
    content = b"mail;departement\nClaire@Exemple.fr;974\npaul@exemple.fr;\nz@exemple.fr;92\n"
    found, said = read(file, content, BY_MAIL)
    assert said == []
    assert [(one.contact.value, one.zone) for one in found] == [
        ("claire@exemple.fr", "Indian/Reunion"),
        ("paul@exemple.fr", "Europe/Paris"),
        ("z@exemple.fr", "Europe/Paris"),
    ]
    found, said = read(file, b"mail\nclaire@exemple.fr\n", BY_MAIL)
    assert (len(found), said) == (1, [])


NOT_READ = "la suite n'est pas lue"
FORMULA = "ligne 2 : ne doit pas commencer par =, +, - ou @"
WRONG = {
    "an empty file": (b"", ["ligne 1 : fichier vide"]),
    "a BOM alone": (b"\xef\xbb\xbf", ["ligne 1 : fichier vide"]),
    "UTF-16": ((HEADER + LINE).decode().encode("utf-16"), ["ligne 1 : n'est pas en UTF-8"]),
    "Latin-1": (HEADER + "0612345678;août;9 h\n".encode("latin-1"), [
        "ligne 2 : n'est pas en UTF-8"
    ]),
    "a column missing": (b"mobile;jour\n", ["ligne 1 : en-tête : il manque heure"]),
    "a column too many": (b"mobile;jour;heure;nom\n", [
        "ligne 1 : en-tête : colonne 4 inconnue"
    ]),
    "a column twice": (b"mobile;jour;heure;jour\n", [
        "ligne 1 : en-tête : colonne jour en double"
    ]),
    "no header": (LINE, [
        "ligne 1 : en-tête : colonne 1 inconnue",
        "ligne 1 : en-tête : colonne 2 inconnue",
        "ligne 1 : en-tête : colonne 3 inconnue",
        "ligne 1 : en-tête : il manque mobile, jour, heure",
    ]),
    "a NUL in the header": (b"mobile;jour;heure\0\n", [
        "ligne 1 : en-tête : colonne 3 inconnue",
        "ligne 1 : en-tête : il manque heure",
    ]),
    "a NUL in a cell": (HEADER + b"0612345678;mar\0di;9 h\n", [
        "ligne 2, colonne jour : caractère interdit"
    ]),
    "a NUL in a number": (HEADER + b"061234\x005678;mardi;9 h\n", [
        "ligne 2, colonne mobile : mobile français attendu"
    ]),
    "a number of another country": (HEADER + b"+447911123456;mardi;9 h\n", [
        "ligne 2, colonne mobile : mobile français attendu"
    ]),
    "a landline": (HEADER + b"0147258369;mardi;9 h\n", [
        "ligne 2, colonne mobile : mobile français attendu"
    ]),
    "nobody": (HEADER + b";mardi;9 h\n", ["ligne 2, colonne mobile : valeur obligatoire"]),
    "nothing to say": (HEADER + b"0612345678;mardi;\n", [
        "ligne 2, colonne heure : valeur obligatoire"
    ]),
    "too much to say": (HEADER + b"0612345678;mardi;" + b"9" * 400 + b"\n", [
        "ligne 2, colonne heure : plus longue que le modèle ne le permet"
    ]),
    "a link": (HEADER + b"0612345678;sur exemple.fr;9 h\n", [
        "ligne 2 : pas d'adresse sur laquelle cliquer"
    ]),
    "a formula": (HEADER + b'0612345678;"=HYPERLINK(1)";9 h\n', [FORMULA]),
    "another formula": (HEADER + b"0612345678;@SUM(A1);9 h\n", [FORMULA]),
    "a cell too few": (HEADER + b"0612345678;mardi\n", ["ligne 2 : 2 colonnes au lieu de 3"]),
    "a quote left open": (HEADER + b'0612345678;"mardi;9 h\n' + LINE, [
        "ligne 2 : guillemet mal placé ou saut de ligne dans une cellule"
    ]),
    "a line without end": (HEADER + LINE + b"x" * 10_000_000, [
        f"ligne 3 : plus de {MAX_LINE_BYTES} octets, {NOT_READ}"
    ]),
    "a header without end": (b"x" * 10_000_000, [
        f"ligne 1 : plus de {MAX_LINE_BYTES} octets, {NOT_READ}"
    ]),
}  # fmt: skip


@pytest.mark.parametrize(("content", "said"), WRONG.values(), ids=WRONG)
def test_what_is_wrong_is_said(file: Path, content: bytes, said: list[str]) -> None:
    assert read(file, content)[1] == said


NO_MAIL = (
    b"claire",
    b"a@b",
    b"a b@exemple.fr",
    b"a@exemple.fr\0",
    b"a@exemple..fr ,b",
    b"a@exemple..fr",
    b"a..b@exemple.fr",
    b"<a@exemple.fr>",
    b"a,b@exemple.fr",
    b"a" * 65 + b"@exemple.fr",
)


def test_a_mail_address_that_is_none_is_refused(file: Path) -> None:
    """None that the mail server would refuse, nor one that means something in a header."""
    for address in NO_MAIL:
        _, [said] = read(file, b"mail;departement\n" + address + b";92\n", BY_MAIL)
        assert said == "ligne 2, colonne mail : adresse électronique attendue"
    _, [said] = read(file, b"mail;departement\na@exemple.fr;99\n", BY_MAIL)
    assert said == "ligne 2, colonne departement : code de département inconnu"


def test_of_a_file_full_of_faults_the_first_are_said(file: Path) -> None:
    found, said = read(file, b"mobile\n" + b"0612345678\nx\n" * 1000, TO_READ)
    assert len(said) == MOST_FINDINGS + 1
    assert said[-1].endswith(NOT_READ)
    assert len(found) == MOST_FINDINGS


def test_it_is_read_as_it_is_asked_for(file: Path) -> None:
    """A file of any size: nothing of it is held but one line."""
    file.write_bytes(b"mobile\n" + b"0612345678\n" * 10_000)
    told: list[tuple[int, int]] = []
    rows = read_file(file, TEXTS, TO_READ, [], lambda done, size: told.append((done, size)))
    for _ in range(1500):
        next(rows)
    assert told == [(told[0][0], file.stat().st_size)]
    assert told[0][0] < file.stat().st_size / 5


def test_a_file_that_can_not_be_read_is_named(tmp_path: Path) -> None:
    for absent in (tmp_path / "rien.csv", tmp_path):
        with pytest.raises(SettingsError, match="ne peut pas être lu"):
            list(read_file(absent, TEXTS, TO_READ, []))


def test_nothing_of_a_line_is_repeated(file: Path) -> None:
    _, said = read(file, HEADER + b"0799999999;sur exemple.fr;secret\n0699;=x;secret\n")
    assert said
    for text in ("0799999999", "exemple", "0699", "secret"):
        assert text not in " ".join(said)
