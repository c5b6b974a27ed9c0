"""`svi check`: each fault that an admin can make, and the lines that tell of it."""

import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from ivr.errors import ScriptError
from ivr.script_files import DEFAULT_FOLDER, load_script
from svi.check import check

HANDLERS = (
    "adviser, announce, another_code, authenticate, choose_dossier, closed, department, enter_code,"
    " forgotten, goodbye, identify, identify_by_nir, last_payment, menu, password_notice,"
    " send_code, session_ended, way_in, welcome"
)
SERVICE = b"""\
[service]
first_step = 'welcome'
failure_step = 'failure'
session_ended_step = 'session_ended'
"""
EMPTY_STEP = '\n[{name}]\nhandler = "goodbye"\nprompts = ["au-revoir"]\n'
THREE_CHOICES = "".join(
    f'  {{ key = "{key}", prompt = "choix-quitter", goto = "goodbye" }},\n' for key in (3, 4, 5)
)


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
        "lines.toml: n'est pas du TOML : Invalid value (at line 3, column 10)",
    ),
    "unknown key of a file": (
        "dialogue.toml",
        "tries = 3",
        "tries = 3\nlanguage = 'fr'",
        "dialogue.toml: language: clé inconnue",
    ),
    "unknown key of a step": (
        "steps.toml",
        "caisse_known =",
        "caisse_connue = 'x'\ncaisse_known =",
        "steps.toml: welcome.caisse_connue: clé inconnue",
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
        '{ key = "2", prompt = "choix-quitter", goto = "goodbye" }',
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
        'goto = "goodbye"',
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
        f'{THREE_CHOICES}  {{ key = "2"',
        "menus.toml: main_menu.choices: 4 au plus",
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
    assert findings(folder) == [finding]


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
        *["lines.toml", "caisses.toml", "dialogue.toml", "prompts.toml"],
        *["words.toml", "steps.toml", "menus.toml"],
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
