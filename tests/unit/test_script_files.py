"""`svi check`: each fault that an admin can make, and the lines that tell of it."""

import re
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from ivr.errors import ScriptError
from ivr.script import LineKind
from ivr.script_files import DEFAULT_FOLDER, load_script
from shared.rights import Right
from shared.rules import DEFAULT_FILE
from svi.check import check

HANDLERS = (
    "adviser, alerts, announce, another_code, appointments, authenticate, certificates,"
    " choose_dossier, claims, closed, debts, delays, department, enter_code, forgotten, goodbye,"
    " identify, identify_by_nir, last_payment, letters, menu, out_of_hours, password_notice,"
    " payments, quotient, requests, rights, send_code, session_ended, way_in, welcome"
)
SERVICE = b"""\
[service]
first_step = 'welcome'
failure_step = 'failure'
session_ended_step = 'session_ended'
"""
EMPTY_STEP = '\n[{name}]\nhandler = "goodbye"\nprompts = ["au-revoir"]\n'
FIFTH_CHOICE = '  { key = "5", prompt = "choix-nir", goto = "goodbye" },\n'

*_rights, _last_right = (repr(right.value) for right in Right)
RIGHTS = f"{', '.join(_rights)} ou {_last_right}"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The call script as it ships, for a test to spoil."""
    return shutil.copytree(DEFAULT_FOLDER, tmp_path / "dialplans")


def run(folder: Path, **environment: object) -> Result:
    variables = {"SVI_DIALPLANS": folder, **environment}
    return CliRunner(env={name: str(value) for name, value in variables.items()}).invoke(check)


def findings(folder: Path, **environment: object) -> list[str]:
    """Give the lines of a check that finds something, without the folder."""
    result = run(folder, **environment)
    assert result.exit_code == 1
    assert result.stdout == ""
    return [line.removeprefix(f"{folder}/") for line in result.stderr.splitlines()]


def replace(path: Path, old: str, new: str) -> None:
    text = path.read_text("utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), "utf-8")


def test_a_code_that_nobody_could_say(folder: Path) -> None:
    """R38: what the information system may tell needs a prompt."""
    replace(folder / "prompts.toml", "droit-apl =", "droit-apk =")
    rule = "dossier.codes.droit: il manque le message « droit-apl »"
    assert findings(folder) == [f"{DEFAULT_FILE}: {rule}"]


def test_a_good_script_is_one_line(folder: Path) -> None:
    script = load_script(folder)
    result = run(folder)
    assert result.exit_code == 0
    assert result.stderr == ""
    assert result.stdout == (
        f"{folder} : {len(script.lines)} lignes, {len(script.steps)} étapes,"
        f" {len(script.catalogue.ids)} messages, tout est en ordre\n"
    )


# file, what stands there, what an admin makes of it, the line of `svi check`
FAULTS = {
    "not TOML": (
        "lines.toml",
        "[service]",
        "service =",
        "lines.toml: n'est pas du TOML : Invalid value (at line 7, column 10)",
    ),
    "unknown key of a file": (
        "dialogue.toml",
        "tries = 3",
        "tries = 3\nlanguage = 'fr'",
        "dialogue.toml: language: clé inconnue",
    ),
    "unknown key of a step": (
        "steps.toml",
        'handler = "welcome"',
        'handler = "welcome"\naccueil = "x"',
        "steps.toml: welcome.accueil: clé inconnue",
    ),
    "missing key of a file": (
        "dialogue.toml",
        "tries = 3",
        "",
        "dialogue.toml: tries: clé manquante",
    ),
    "missing key of a step": (
        "steps.toml",
        'requested = "oubli-demande"',
        "",
        "steps.toml: forgotten.requested: clé manquante",
    ),
    "number instead of text": (
        "lines.toml",
        'caisse = "92"',
        "caisse = 92",
        "lines.toml: lines.0146300092.caisse: il faut un texte entre guillemets",
    ),
    "text instead of a number": (
        "dialogue.toml",
        "first_key = 7.0",
        'first_key = "sept"',
        "dialogue.toml: first_key: il faut un nombre",
    ),
    "half a try": (
        "dialogue.toml",
        "tries = 3",
        "tries = 2.5",
        "dialogue.toml: tries: il faut un nombre entier",
    ),
    "a caisse that no prompt names": (
        "prompts.toml",
        "dossier-2a =",
        "dossier-2c =",
        "caisses.toml: caisses.2A: il manque le message « dossier-2a »",
    ),
    "text instead of a list": (
        "steps.toml",
        '["numero", "numero-2", "numero-3"]',
        '"numero"',
        "steps.toml: identify.ask: il faut une liste [ … ]",
    ),
    "text instead of a table of a choice": (
        "menus.toml",
        '{ key = "2", prompt = "choix-paiements-droits", goto = "money_menu" }',
        '"goodbye"',
        "menus.toml: main_menu.choices.1: il faut une table",
    ),
    "step that is no table": (
        "steps.toml",
        "[welcome]",
        "accueil = 3\n[welcome]",
        "steps.toml: accueil: il faut une table [accueil]",
    ),
    "unknown handler": (
        "steps.toml",
        'handler = "welcome"',
        'handler = "welcom"',
        f"steps.toml: welcome.handler: il faut l'un de : {HANDLERS} ; vouliez-vous « welcome » ?",
    ),
    "no handler": (
        "steps.toml",
        'handler = "welcome"',
        "",
        f"steps.toml: welcome.handler: il faut l'un de : {HANDLERS}",
    ),
    "list of handlers": (
        "steps.toml",
        'handler = "goodbye"',
        "handler = [1]",
        f"steps.toml: goodbye.handler: il faut l'un de : {HANDLERS}",
    ),
    "unknown prompt": (
        "steps.toml",
        '"numero-2"',
        '"numero-22"',
        "steps.toml: identify.ask.1: « numero-22 » n'existe pas ; vouliez-vous « numero-2 » ?",
    ),
    "unknown prompt of a line": (
        "lines.toml",
        '"accueil"',
        '"acceuil"',
        "lines.toml: lines.3230.greeting: « acceuil » n'existe pas ; vouliez-vous « accueil » ?",
    ),
    "unknown step": (
        "steps.toml",
        'back = "authenticate"',
        'back = "identity"',
        "steps.toml: forgotten.back: « identity » n'existe pas ; vouliez-vous « identify » ?",
    ),
    "unknown step of a choice": (
        "menus.toml",
        'goto = "money_menu"',
        'goto = "zzz"',
        "menus.toml: main_menu.choices.1.goto: « zzz » n'existe pas",
    ),
    "unknown first step": (
        "lines.toml",
        'first_step = "welcome"',
        'first_step = "Welcome"',
        "lines.toml: service.first_step: « Welcome » n'existe pas ; vouliez-vous « welcome » ?",
    ),
    "unknown caisse of a line": (
        "lines.toml",
        'caisse = "92"',
        'caisse = "092"',
        "lines.toml: lines.0146300092.caisse: « 092 » n'existe pas ; vouliez-vous « 92 » ?",
    ),
    "unknown caisse of a département": (
        "caisses.toml",
        '2 = "2B"',
        '2 = "20B"',
        "caisses.toml: departments.20.choices.2: « 20B » n'existe pas ; vouliez-vous « 2B » ?",
    ),
    "question without a prompt": (
        "steps.toml",
        '["numero", "numero-2", "numero-3"]',
        "[]",
        "steps.toml: identify.ask: est vide",
    ),
    "menu that does not say its keys": (
        "menus.toml",
        'keys_everywhere = ["menu-touches"]',
        "keys_everywhere = []",
        "menus.toml: main_menu.keys_everywhere: est vide",
    ),
    "empty name of a prompt": (
        "steps.toml",
        'confirm = "oubli-confirmer"',
        'confirm = ""',
        "steps.toml: forgotten.confirm: est vide",
    ),
    "menu key that means something else everywhere": (
        "menus.toml",
        'key = "2"',
        'key = "9"',
        "menus.toml: main_menu.choices.1.key: valeur impossible ; il faut ^[1-8]$",
    ),
    "menu key of two digits": (
        "menus.toml",
        'key = "2"',
        'key = "12"',
        "menus.toml: main_menu.choices.1.key: valeur impossible ; il faut ^[1-8]$",
    ),
    "menu key twice": (
        "menus.toml",
        'key = "2"',
        'key = "1"',
        "menus.toml: main_menu.choices.1.key: la touche 1 mène déjà ailleurs",
    ),
    "five choices": (
        "menus.toml",
        '  { key = "2"',
        f'{FIFTH_CHOICE}  {{ key = "2"',
        "menus.toml: main_menu.choices: 4 au plus à la fois",
    ),
    "choice for a right that there is not": (
        "menus.toml",
        'goto = "last_payment"',
        'goto = "last_payment", rights = ["read minds"]',
        "menus.toml: main_menu.choices.0.rights.0: il faut l'un de : {rights}",
    ),
    "choice during hours that there are not": (
        "menus.toml",
        'goto = "last_payment"',
        'goto = "last_payment", hours = "arpia"',
        "menus.toml: main_menu.choices.0.hours: « arpia » n'existe pas ; vouliez-vous « aripa » ?",
    ),
    "choice until before it begins": (
        "menus.toml",
        'goto = "last_payment"',
        'goto = "last_payment", from = 2026-12-02T00:00:00, until = 2026-12-01T00:00:00',
        "menus.toml: main_menu.choices.0: « until » doit être après « from »",
    ),
    "choice from a day, without a time": (
        "menus.toml",
        'goto = "last_payment"',
        'goto = "last_payment", from = 2026-12-02',
        (
            "menus.toml: main_menu.choices.0.from: il faut une date et une heure sans guillemets,"
            " comme 2026-12-24T08:00:00"
        ),
    ),
    "menu key twice, at times that meet": (
        "menus.toml",
        '{ key = "2", prompt = "choix-paiements-droits", goto = "money_menu" }',
        '{ key = "1", prompt = "tapez", goto = "money_menu", from = 2026-12-02T00:00:00 }',
        "menus.toml: main_menu.choices.1.key: la touche 1 mène déjà ailleurs",
    ),
    "five choices, of which one is for those with a code": (
        "menus.toml",
        '  { key = "2"',
        FIFTH_CHOICE.replace(" }", ', credentials = ["code"] }') + '  { key = "2"',
        "menus.toml: main_menu.choices: 4 au plus à la fois",
    ),
    "line without a kind": (
        "lines.toml",
        'kind = "caisse"',
        "",
        "lines.toml: lines.3230.kind: clé manquante",
    ),
    "line of an unknown kind": (
        "lines.toml",
        'kind = "caisse"',
        'kind = "tax"',
        "lines.toml: lines.3230.kind: il faut l'un de : 'caisse', 'aripa', 'student' ou 'help'",
    ),
    "line whose callers no platform answers": (
        "platforms.toml",
        'kind = "aripa"',
        "",
        "lines.toml: lines.3238.kind: aucune plateforme n'a kind = « aripa » (platforms.toml)",
    ),
    "line with hours and nothing to say outside of them": (
        "lines.toml",
        'closed = "aripa_closed"',
        "",
        "lines.toml: lines.3238: hours et closed vont ensemble",
    ),
    "line with something to say outside of no hours": (
        "lines.toml",
        'hours = "aripa"',
        "",
        "lines.toml: lines.3238: hours et closed vont ensemble",
    ),
    "unknown hours of a line": (
        "lines.toml",
        'hours = "aripa"',
        'hours = "toujours"',
        "lines.toml: lines.3238.hours: « toujours » n'existe pas",
    ),
    "unknown first step of a line": (
        "lines.toml",
        'first_step = "department"',
        'first_step = "departement"',
        (
            "lines.toml: lines.3230.first_step: « departement » n'existe pas ;"
            " vouliez-vous « department » ?"
        ),
    ),
    "hours that are no list": (
        "hours.toml",
        'monday = ["9:00-16:30"]',
        'monday = "9:00-16:30"',
        "hours.toml: hours.aripa.monday: il faut une liste [ … ]",
    ),
    "hours in words": (
        "hours.toml",
        '["9:00-16:30"]',
        '["de 9 à 16"]',
        "hours.toml: hours.aripa.monday.0: il faut une plage comme 9:00-16:30, à 5 minutes près",
    ),
    "closed date in quotes": (
        "hours.toml",
        "national = true",
        "closed = ['2026-12-24']",
        "hours.toml: hours.aripa.closed.0: il faut une date sans guillemets, comme 2026-12-24",
    ),
    "open on a day that there is not": (
        "hours.toml",
        "national = true",
        "open = { 2026-02-29 = ['9:00-12:00'] }",
        "hours.toml: hours.aripa.open.2026-02-29.[key]: il faut une date comme 2026-12-24",
    ),
    "national in words": (
        "hours.toml",
        "national = true",
        "national = 'peut-être'",
        "hours.toml: hours.aripa.national: il faut true ou false",
    ),
    "platform of an unknown kind": (
        "platforms.toml",
        'kind = "help"',
        'kind = "caisse"',
        "platforms.toml: platforms.aide.kind: il faut l'un de : 'aripa', 'student' ou 'help'",
    ),
    "platform with a name that the dialplan does not find": (
        "platforms.toml",
        "[platforms.aide]",
        '[platforms."Aide au mot de passe"]',
        (
            "platforms.toml: platforms.Aide au mot de passe.[key]: valeur impossible ;"
            " il faut ^[a-z0-9][A-Za-z0-9-]+$"
        ),
    ),
    "two platforms of a kind": (
        "platforms.toml",
        'kind = "help"',
        'kind = "help"\n[platforms.aide-2]\nkind = "help"',
        "platforms.toml: platforms.aide-2.kind: « help » est déjà dans « aide »",
    ),
    "two platforms of a caisse": (
        "platforms.toml",
        'kind = "help"',
        'kind = "help"\ncaisses = ["75"]\n[platforms.est]\ncaisses = ["54", "75"]',
        "platforms.toml: platforms.est.caisses.1: « 75 » est déjà dans « aide »",
    ),
    "overflows that go round": (
        "platforms.toml",
        'kind = "help"',
        'kind = "help"\noverflow = "aide-2"\n[platforms.aide-2]\noverflow = "aide-2"',
        "platforms.toml: platforms.aide-2.overflow: les débordements tournent en rond",
    ),
    "overflow to nobody": (
        "platforms.toml",
        'kind = "help"',
        'kind = "help"\noverflow = "arpia"',
        (
            "platforms.toml: platforms.aide.overflow: « arpia » n'existe pas ;"
            " vouliez-vous « aripa » ?"
        ),
    ),
    "announcement on a line that there is not": (
        "announcements.toml",
        "#[announcements.greve]",
        '[announcements.essai]\nprompt = "excuse-technique"\nlines = ["99"]',
        "announcements.toml: announcements.essai.lines.0: « 99 » n'existe pas",
    ),
    "announcement on no line": (
        "announcements.toml",
        "#[announcements.greve]",
        '[announcements.essai]\nprompt = "excuse-technique"\nlines = []',
        "announcements.toml: announcements.essai.lines: est vide",
    ),
    "announcement of nothing": (
        "announcements.toml",
        "#[announcements.greve]",
        "[announcements.essai]\nemergency = true",
        "announcements.toml: announcements.essai.prompt: clé manquante",
    ),
    "announcement until an hour with an offset": (
        "announcements.toml",
        "#[announcements.greve]",
        '[announcements.essai]\nprompt = "excuse-technique"\nuntil = 2026-12-01T08:00:00Z',
        (
            "announcements.toml: announcements.essai.until:"
            " l'heure est celle de la caisse : ôtez le décalage"
        ),
    ),
    "step of both files": (
        "menus.toml",
        "[main_menu]",
        EMPTY_STEP.format(name="goodbye") + "[main_menu]",
        "menus.toml: goodbye: existe déjà dans steps.toml",
    ),
    "step that nothing leads to": (
        "steps.toml",
        "\n[welcome]",
        EMPTY_STEP.format(name="lonely") + "[welcome]",
        "steps.toml: lonely: aucun appel n'arrive à cette étape",
    ),
    "no time to answer": (
        "dialogue.toml",
        "first_key = 7.0",
        "first_key = 0",
        "dialogue.toml: first_key: il faut plus de 0",
    ),
    "time that runs backwards": (
        "dialogue.toml",
        "between_keys = 5.0",
        "between_keys = -5",
        "dialogue.toml: between_keys: il faut plus de 0",
    ),
    "a silence nobody would bear": (
        "dialogue.toml",
        "first_key = 7.0",
        "first_key = 61",
        "dialogue.toml: first_key: il faut 60 au plus",
    ),
    "an endless silence": (
        "dialogue.toml",
        "first_key = 7.0",
        "first_key = inf",
        "dialogue.toml: first_key: il faut 60 au plus",
    ),
    "no try": (
        "dialogue.toml",
        "tries = 3",
        "tries = 0",
        "dialogue.toml: tries: il faut plus de 0",
    ),
    "a hundred tries": (
        "dialogue.toml",
        "tries = 3",
        "tries = 100",
        "dialogue.toml: tries: il faut 10 au plus",
    ),
    "département chosen by 0": (
        "caisses.toml",
        '1 = "2A"',
        '0 = "2A"',
        "caisses.toml: departments.20.choices.0.[key]: valeur impossible ; il faut ^[1-8]$",
    ),
    "département without a choice": (
        "caisses.toml",
        '{ 1 = "2A", 2 = "2B" }',
        "{}",
        "caisses.toml: departments.20.choices: il en faut 1 au moins",
    ),
}


@pytest.mark.parametrize(("file", "old", "new", "finding"), FAULTS.values(), ids=FAULTS)
def test_a_fault_is_one_line(folder: Path, file: str, old: str, new: str, finding: str) -> None:
    replace(folder / file, old, new)
    assert findings(folder) == [finding.replace("{rights}", RIGHTS)]


# What stands in a whole file, and the line of `svi check`
SPOILT_FILES = {
    "not UTF-8": (
        "steps.toml",
        "# étape".encode("latin-1"),
        "steps.toml: doit être enregistré en UTF-8",
    ),
    "no line": (
        "lines.toml",
        SERVICE + b"[lines]",
        "lines.toml: lines: il en faut 1 au moins",
    ),
    "lines that are no table": (
        "lines.toml",
        b"lines = 3230\n" + SERVICE,
        "lines.toml: lines: il faut une table",
    ),
    "placeholder of Asterisk's that we don't know": (
        "asterisk/extra.conf",
        b"; one\nbindport = @SIP_PROT@\n",
        "extra.conf:2: @SIP_PROT@ n'existe pas ; connus : {placeholders}",
    ),
    "prompt of the dialplan": (
        "asterisk/extra.conf",
        b"; svi/commented\n same => n,Playback(svi/excuse-technique&svi/bonsoir)\n",
        "asterisk/extra.conf:2: svi/bonsoir: ce message n'existe pas dans prompts.toml",
    ),
}


@pytest.mark.parametrize(("file", "content", "finding"), SPOILT_FILES.values(), ids=SPOILT_FILES)
def test_a_spoilt_file_is_one_line(folder: Path, file: str, content: bytes, finding: str) -> None:
    (folder / file).write_bytes(content)
    (line,) = findings(folder)
    assert line.startswith(finding.partition("{")[0])


@pytest.mark.parametrize("file", ["lines.toml", "caisses.toml", "steps.toml", "words.toml"])
def test_a_missing_file_is_one_line(folder: Path, file: str) -> None:
    (folder / file).unlink()
    (line,) = findings(folder)
    assert line.startswith(f"{file}: ")
    assert line.endswith("No such file or directory")


def test_all_missing_files_are_named(tmp_path: Path) -> None:
    lines = findings(tmp_path)
    assert [line.partition(":")[0] for line in lines[:-1]] == [
        *["lines.toml", "caisses.toml", "hours.toml", "platforms.toml", "announcements.toml"],
        *["dialogue.toml", "prompts.toml", "words.toml", "steps.toml", "menus.toml"],
    ]
    assert lines[-1].startswith("asterisk: ")


def test_every_fault_is_told_at_once(folder: Path, tmp_path: Path) -> None:
    rules = tmp_path / "rules.toml"
    rules.write_text("argon = 2", "utf-8")
    replace(folder / "dialogue.toml", "tries = 3", "tries = 0")
    replace(folder / "prompts.toml", '"Bonjour, et bienvenue à la Caf."', '""')
    replace(folder / "steps.toml", 'handler = "welcome"', 'handler = "door"')
    replace(folder / "steps.toml", 'given_up = "adviser"', 'given_up = "advisor"')
    replace(folder / "menus.toml", 'key = "2"', 'key = "0"')
    (folder / "asterisk/extra.conf").write_text("bindport = @PORT@\n", "utf-8")
    (
        in_rules,
        in_dialogue,
        in_prompts,
        in_welcome,
        in_menu,
        in_department,
        in_asterisk,
    ) = findings(folder, SVI_RULES=rules)
    assert in_rules.startswith(f"{rules}: argon2: ")
    assert in_dialogue.startswith("dialogue.toml: tries: ")
    assert in_prompts.startswith("prompts.toml: accueil: ")
    assert in_welcome.startswith("steps.toml: welcome.handler: ")
    assert in_menu.startswith("menus.toml: main_menu.choices.1.key: ")
    assert in_department.startswith("steps.toml: department.given_up: « advisor »")
    assert in_asterisk.startswith("extra.conf:1: @PORT@ ")


def test_prompts_of_all_of_asterisks_files_are_looked_up(folder: Path) -> None:
    for name in ("one", "two"):
        (folder / f"asterisk/{name}.conf").write_text(f"Playback(svi/{name})\n", "utf-8")
    assert [line.partition(": ce")[0] for line in findings(folder)] == [
        "asterisk/one.conf:1: svi/one",
        "asterisk/two.conf:1: svi/two",
    ]


def test_the_service_refuses_what_the_check_finds(folder: Path) -> None:
    replace(folder / "dialogue.toml", "tries = 3", "tries = 0")
    with pytest.raises(ScriptError) as caught:
        load_script(folder)
    assert str(caught.value) == f"{folder}/dialogue.toml: tries: il faut plus de 0"


def test_choices_that_nobody_sees_together_are_counted_apart(folder: Path) -> None:
    """D18: four at a time; one key may mean two things before and after a day."""
    apart = (
        '{ key = "3", credentials = ["code"] }',
        '{ key = "3", credentials = ["password"], until = 2026-12-01T00:00:00 }',
        '{ key = "3", credentials = ["password"], from = 2026-12-01T00:00:00 }',
        '{ key = "4", credentials = ["code"] }',
        '{ key = "4", credentials = ["one-time-code", "password"] }',
    )
    choices = ", ".join(apart).replace("{", '{ prompt = "tapez", goto = "goodbye",')
    first_of_two = '  { key = "1", prompt = "choix-aripa-information"'
    replace(folder / "menus.toml", first_of_two, f"{choices},\n{first_of_two}")
    assert len(load_script(folder).steps) == len(load_script().steps)


def test_every_example_in_the_comments_is_right(folder: Path) -> None:
    """R34, R36: what admins are shown they may use; the help of October 2021 among it."""
    for name in ("hours", "platforms", "announcements", "menus", "prompts"):
        path = folder / f"{name}.toml"
        path.write_text(re.sub(r"(?m)^( *)#(?=[\[{a-z])", r"\1", path.read_text("utf-8")), "utf-8")
    replace(folder / "prompts.toml", "[prompts]", '[prompts]\nannonce-greve = "Une grève."')
    script = load_script(folder)
    assert script.platforms.of(LineKind.CAISSE, "92")[0] == "plateau-ouest"
    assert script.platforms.default.hours == "caisses"
    assert [*script.announcements] == ["greve"]
    assert "choix-premiere-connexion" in script.catalogue
