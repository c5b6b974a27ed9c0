"""The `svi` command as admins run it: a process of its own, in a folder of its own."""

import csv
import json
import os
import re
import signal
import socket
import sqlite3
import stat
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from datetime import datetime
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from shared.claimants import COLUMNS
from shared.rules import PARIS
from svi.__main__ import EXPECTED, cli

SVI = Path(sys.executable).with_name("svi")
SECONDS = 100.0
STOP_SECONDS = 5.0

CAISSE, NUMBER, PASSWORD, WRONG = "92", "0000354", "73920461", "16042738"
MOBILE = "+33612345678"
SHOW = ["accounts", "show", "--caisse", CAISSE, "--number", NUMBER]
ADD = ["accounts", "add", "--caisse", CAISSE, "--number", NUMBER, "--mobile", MOBILE]


def environment(home: Path, variables: Mapping[str, object]) -> dict[str, str]:
    ours = {name: text for name, text in os.environ.items() if not name.startswith("SVI_")}
    return {**ours, "SVI_HOME": str(home), **{name: str(v) for name, v in variables.items()}}


def svi(
    home: Path, *arguments: str, stdin: str = "", **variables: object
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [SVI, *arguments],
        input=stdin,
        capture_output=True,
        encoding="utf-8",
        env=environment(home, variables),
        timeout=SECONDS,
        check=False,
    )


def output(home: Path, *arguments: str, stdin: str = "") -> list[str]:
    """Give the lines of a command that succeeds."""
    done = svi(home, *arguments, stdin=stdin)
    assert done.stderr == ""
    assert done.returncode == 0
    return done.stdout.splitlines()


def complaint(home: Path, *arguments: str, stdin: str = "", **variables: object) -> str:
    """Give the one line of a command that fails."""
    done = svi(home, *arguments, stdin=stdin, **variables)
    assert done.returncode == 1
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    return line


def refusal(home: Path, *arguments: str, stdin: str = "", **variables: str) -> str:
    """Give what `complaint` gives, in less time: without a process of its own."""
    runner = CliRunner(env={"SVI_HOME": str(home), **variables})
    result = runner.invoke(cli, arguments, input=stdin)
    assert result.exit_code == 1
    assert isinstance(result.exception, (SystemExit, *EXPECTED))
    assert result.stdout == ""
    (line,) = (result.stderr or f"svi: {result.exception}").splitlines()
    return line


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture(scope="module")
def used_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with one dossier, for tests that count no failure against it."""
    home = tmp_path_factory.mktemp("used") / "home"
    assert output(home, *ADD, "--password-stdin", stdin=f"{PASSWORD}\n") == ["dossier créé"]
    return home


@pytest.fixture(scope="module")
def empty_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home where nothing happened yet."""
    home = tmp_path_factory.mktemp("empty") / "home"
    output(home, "keys", "create")
    output(home, "db", "upgrade")
    return home


def held(home: Path) -> bytes:
    """Give all that stands in a home."""
    return b"".join(path.read_bytes() for path in home.rglob("*") if path.is_file())


# Help


def commands(command: click.Command, name: str = "svi") -> Iterator[tuple[str, click.Command]]:
    """Give a command by its full name, and those below it."""
    yield name, command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for below in command.list_commands(context):
            found = command.get_command(context, below)
            assert found is not None
            yield from commands(found, f"{name} {below}")


COMMANDS = dict(commands(cli))


@pytest.mark.parametrize("name", COMMANDS)
def test_help_has_an_example(name: str) -> None:
    text = CliRunner().invoke(COMMANDS[name], ["--help"]).output
    _, found, examples = re.split(r"(Exemples? :)\n", text)
    assert found
    assert re.search(rf"\b{name}\b", examples)


def test_help_needs_no_home(home: Path) -> None:
    assert output(home, "voice", "--help")[0] == "Usage : svi voice [OPTIONS]"
    assert not home.exists()


# What an admin gets wrong

BAD_SETTINGS = {
    "a port that is no number": ("SVI_SIP_PORT", "sip", "il faut un nombre entier"),
    "a port that does not exist": ("SVI_SIP_PORT", "65536", "il faut 65535 au plus"),
    "no port": ("SVI_AGI_PORT", "-1", "il faut 0 au moins"),
    "a database of another kind": ("SVI_DATABASE_URL", "mysql://u:hush@h/b", "il faut sqlite:"),
    "a driver that we lack": ("SVI_DATABASE_URL", "postgresql://u:hush@h/b", "il faut sqlite:"),
    "a database whose port is none": (
        "SVI_DATABASE_URL",
        "postgresql+psycopg://u:hush@h:x/b",
        "il faut sqlite:",
    ),
    "no URL": ("SVI_DATABASE_URL", "hush", "il faut sqlite:"),
}


@pytest.mark.parametrize(("name", "value", "reason"), BAD_SETTINGS.values(), ids=BAD_SETTINGS)
def test_a_setting_that_makes_no_sense(home: Path, name: str, value: str, reason: str) -> None:
    line = refusal(home, "check", **{name: value})
    assert line.startswith(f"Erreur : {name} : {reason}")
    assert "hush" not in line


def test_a_home_that_is_a_file(home: Path) -> None:
    home.write_text("")
    assert str(home) in complaint(home, "call", "--keys", "92")


def test_a_home_that_is_not_there(home: Path) -> None:
    assert complaint(home, "calls").startswith(f"Erreur : {home} n'existe pas")
    assert complaint(home, "db", "status") == f"Erreur : {home} n'existe pas : vérifiez SVI_HOME"
    assert not home.exists()


def test_keys_are_made_in_a_home_that_is_not_there(home: Path) -> None:
    (line,) = output(home, "keys", "create")
    assert line.startswith(f"{home}/keys.json : trousseau créé")
    assert stat.S_IMODE(home.stat().st_mode) == 0o700
    assert "svi db upgrade" in refusal(home, "calls")


def test_without_a_key_ring_the_remedy_depends_on_the_database(home: Path) -> None:
    home.mkdir()
    missing = f"Erreur : {home}/keys.json : il n'y a pas de trousseau ; "
    assert refusal(home, "calls") == f"{missing}lancez : svi keys create"
    output(home, "db", "upgrade")
    assert refusal(home, "calls") == f"{missing}restaurez celui de la sauvegarde"


def test_a_file_that_can_not_be_written_is_named(used_home: Path, tmp_path: Path) -> None:
    file = tmp_path / "none" / "dossier.json"
    export = ["accounts", "export", "--caisse", CAISSE, "--number", NUMBER, "--file", str(file)]
    line = complaint(used_home, *export)
    assert line == f"svi: {file}: ne peut pas être écrit : No such file or directory"


def test_a_database_that_is_none(used_home: Path, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'text'}"
    (tmp_path / "text").write_text("bonjour")
    line = complaint(used_home, "calls", SVI_DATABASE_URL=url)
    assert line == (
        f"svi: {url}: base de données injoignable ou illisible (DatabaseError) :"
        " vérifiez SVI_DATABASE_URL ou SVI_HOME"
    )


def test_a_database_that_is_away(used_home: Path) -> None:
    url = "postgresql+psycopg://user:hush@127.0.0.1:1/base"
    line = complaint(used_home, "calls", SVI_DATABASE_URL=url)
    assert line.startswith("svi: postgresql+psycopg://user:***@127.0.0.1:1/base: base de données ")


KEY_RINGS = {
    "readable by others": (0o644, "{}", "d'autres peuvent le lire ; lancez : chmod 600"),
    "no JSON": (0o600, "keys", "trousseau illisible ; restaurez sa sauvegarde"),
    "of another kind": (0o600, "[]", "trousseau illisible ; restaurez sa sauvegarde"),
}


@pytest.mark.parametrize(("mode", "text", "reason"), KEY_RINGS.values(), ids=KEY_RINGS)
def test_a_damaged_key_ring(home: Path, mode: int, text: str, reason: str) -> None:
    home.mkdir()
    keys = home / "keys.json"
    keys.write_text(text)
    keys.chmod(mode)
    assert refusal(home, *SHOW).startswith(f"svi: {keys}: {reason}")
    assert keys.read_text() == text


def test_rules_that_are_wrong(used_home: Path, tmp_path: Path) -> None:
    rules = tmp_path / "rules.toml"
    rules.write_text("[argon2]\nmemory_kib = 1\n")
    line = complaint(used_home, "calls", SVI_RULES=rules)
    assert line.startswith(f"svi: {rules}: argon2.memory_kib: ")


def test_no_voice_without_its_prompts(home: Path) -> None:
    line = complaint(home, "voice")
    assert line.startswith(f"Erreur : {home}/prompts : il manque ")
    assert line.endswith("lancez : svi prompts build")


def test_a_folder_without_a_script(home: Path, tmp_path: Path) -> None:
    done = svi(home, "call", "--keys", "92", SVI_DIALPLANS=tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith(f"svi: {tmp_path}/lines.toml: ne peut pas être lu")
    assert "Traceback" not in done.stderr


# accounts


def test_an_account_is_shown_without_name_contact_or_secret(used_home: Path) -> None:
    summary, person, password = output(used_home, *SHOW)
    assert summary == "caisse 92, affilie, sessions ouvertes : 0"
    assert person == "  allocataire, mobile"
    assert re.fullmatch(r"  mot de passe actif, du \d{4}-\d{2}-\d{2}", password)


def test_an_account_that_is_not_there(used_home: Path) -> None:
    line = refusal(used_home, *SHOW[:-1], "9999999")
    assert line == "Erreur : il n'y a pas de tel dossier"


BAD_ACCOUNTS = {
    "caisse 20": (["20", "1111111", MOBILE, PASSWORD], "caisse : "),
    "number of 6 digits": ([CAISSE, "111111", MOBILE, PASSWORD], "numéro : 7 chiffres"),
    "mobile as it is dialled": ([CAISSE, "1111111", "0612345678", PASSWORD], "mobile : "),
    "password of letters": ([CAISSE, "1111111", MOBILE, "sécret78"], "mot de passe : 8 chiffres"),
    "no password": ([CAISSE, "1111111", MOBILE, ""], "mot de passe : 8 chiffres"),
    "dossier that exists": ([CAISSE, NUMBER, MOBILE, PASSWORD], "ce dossier existe déjà"),
}


@pytest.mark.parametrize(("given", "reason"), BAD_ACCOUNTS.values(), ids=BAD_ACCOUNTS)
def test_an_account_that_can_not_be_made(used_home: Path, given: list[str], reason: str) -> None:
    caisse, number, mobile, password = given
    options = ["--caisse", caisse, "--number", number, "--mobile", mobile, "--password-stdin"]
    line = refusal(used_home, "accounts", "add", *options, stdin=f"{password}\r\n")
    assert line.startswith(f"svi: {reason}")
    assert not any(secret in line for secret in (number, mobile, password or PASSWORD))


def test_a_password_is_never_an_argument(home: Path) -> None:
    done = svi(home, *ADD)
    assert done.returncode == 2
    assert done.stderr.endswith("Erreur : Il manque l'option '--password-stdin'.\n")


def claimants(path: Path, *rows: Mapping[str, str]) -> str:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, restval="", delimiter=";")
        writer.writeheader()
        writer.writerows(rows)
    return str(path)


CLAIRE = {
    "caisse": CAISSE,
    "numero": NUMBER,
    "role": "allocataire",
    "situation": "affilie",
    "nom": "Lefèvre",
    "naissance": "1995-10-07",
}
HUGO = CLAIRE | {"role": "conjoint", "nom": "Petit"}


def test_a_file_of_claimants(home: Path, tmp_path: Path) -> None:
    file = claimants(tmp_path / "file.csv", CLAIRE, HUGO)
    assert output(home, "accounts", "import", file)[-1] == (
        "2 personnes ajoutées, 0 mises à jour, 0 inchangées"
    )
    assert output(home, "accounts", "import", file)[-1] == (
        "0 personnes ajoutées, 0 mises à jour, 2 inchangées"
    )


def test_a_file_of_claimants_is_taken_whole_or_not_at_all(home: Path, tmp_path: Path) -> None:
    file = claimants(
        tmp_path / "file.csv", CLAIRE, HUGO | {"numero": "123"}, HUGO | {"naissance": "hier"}
    )
    done = svi(home, "accounts", "import", file)
    assert done.returncode == 1
    third, fourth, end = done.stderr.splitlines()
    assert third.startswith(f"{file} : ligne 3, colonne numero : ")
    assert fourth.startswith(f"{file} : ligne 4, colonne naissance : ")
    assert end == f"{file} : refusé, rien n'a été importé"
    assert refusal(home, *SHOW) == "Erreur : il n'y a pas de tel dossier"


# call and calls


def test_a_call_is_shown_as_it_goes(used_home: Path) -> None:
    lines = output(used_home, "call", "--keys", f"92 {NUMBER} {PASSWORD} 1")
    spoken = [line for line in lines if line.startswith("« ")]
    assert [line for line in lines if line not in spoken] == [
        "    92",
        f"    {NUMBER}",
        "    ********",
        "    1",
        "fin : authenticated",
    ]
    assert spoken[0].startswith("« Bonjour, ")
    assert "zéro zéro zéro zéro trois cinq quatre" in spoken[2]
    assert spoken[4].startswith("« Cette information n'est pas disponible pour le moment.")


ENDINGS = {
    "gets in": (f"92 {NUMBER} {PASSWORD}", "authenticated", 0),
    "asks for an adviser": (f"92 {NUMBER} {PASSWORD} 0", "transferred", 3),
    "is refused": (f"92 7654321 {WRONG} {WRONG} {WRONG}", "refused", 4),
    "hangs up": ("92", "abandoned", 6),
}


@pytest.mark.parametrize(("keys", "outcome", "code"), ENDINGS.values(), ids=ENDINGS)
def test_how_a_call_ends_is_its_exit_code(
    used_home: Path, keys: str, outcome: str, code: int
) -> None:
    done = svi(used_home, "call", "--keys", keys)
    assert done.stdout.splitlines()[-1] == f"fin : {outcome}"
    assert done.returncode == code


def test_a_call_that_a_broken_database_fails(home: Path) -> None:
    svi(home, "call", "--keys", "")
    with closing(sqlite3.connect(home / "svi.db")) as database:
        database.execute("DROP TABLE credential")
    done = svi(home, "call", "--keys", f"92 {NUMBER} {PASSWORD}")
    assert done.stdout.splitlines()[-1] == "fin : failed"
    assert done.returncode == 8
    assert PASSWORD not in done.stderr
    assert [json.loads(line)["event"] for line in done.stderr.splitlines()] == ["call_failed"]


@pytest.mark.parametrize("keys", ["9x2", f"92 {PASSWORD},1"])
def test_keys_that_no_telephone_has(home: Path, keys: str) -> None:
    line = refusal(home, "call", "--keys", keys)
    assert line == (
        f"Erreur : --keys, groupe {len(keys.split())} :"
        " un téléphone n'a que les touches 0 à 9, * et #"
    )


def test_a_line_that_nobody_has(home: Path) -> None:
    line = refusal(home, "call", "--keys", "92", "--line", "3231")
    assert line.startswith("Erreur : --line : pas de telle ligne ; il y a 3230, ")


def test_calls_are_listed_oldest_first(home: Path) -> None:
    svi(home, "call", "--keys", f"92 {NUMBER}")
    svi(home, "call", "--keys", "", "--line", "0146300092")
    first, second = map(json.loads, output(home, "calls", "--json"))
    assert set(first) == {
        *["id", "started_at", "ended_at", "line", "caisse", "number", "steps", "outcome"]
    }
    assert (first["line"], first["caisse"], first["outcome"]) == ("3230", CAISSE, "abandoned")
    assert [step[:2] for step in first["steps"]] == [
        ["welcome", "department"],
        ["department", "way_in"],
        ["way_in", "identify"],
        ["identify", "authenticate"],
        ["authenticate", None],
    ]
    assert re.fullmatch(r"[0-9a-f]{16}", first["number"])
    assert second["line"] == "0146300092"
    assert second["number"] is None
    assert first["started_at"] < first["ended_at"] < second["started_at"]
    assert second["started_at"].endswith("+00:00")
    (newest,) = output(home, "calls", "--last", "1")
    paris = datetime.fromisoformat(second["started_at"]).astimezone(PARIS)
    assert re.fullmatch(
        rf"{paris:%Y-%m-%d %H:%M:%S}  0146300092  caisse 92  \d s  abandoned"
        r"  welcome > way_in > identify",
        newest,
    )


LISTS = [["calls"], ["sms", "list"], ["api", "keys", "list"]]


@pytest.mark.parametrize("command", LISTS, ids=" ".join)
def test_an_empty_list_says_so_except_in_json(empty_home: Path, command: list[str]) -> None:
    runner = CliRunner(env={"SVI_HOME": str(empty_home)})
    assert runner.invoke(cli, command).stdout == "rien\n"
    assert runner.invoke(cli, [*command, "--json"]).stdout == ""


REACHES = {"nothing runs": None, "the file holds something else": "[]"}


@pytest.mark.parametrize("reach", REACHES.values(), ids=REACHES)
def test_calls_in_progress_when_nothing_says_where(home: Path, reach: str | None) -> None:
    home.mkdir()
    if reach is not None:
        (home / "ami.json").write_text(reach)
    line = complaint(home, "calls", "--live")
    assert (
        line == f"Erreur : {home}/ami.json : ne dit pas où joindre Asterisk ; svi up tourne-t-il ?"
    )


def test_calls_in_progress_when_asterisk_is_gone(home: Path) -> None:
    home.mkdir()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    reach = {"host": "127.0.0.1", "port": port, "user": "svi", "secret": "hush"}
    (home / "ami.json").write_text(json.dumps(reach))
    line = complaint(home, "calls", "--hang-up", "PJSIP/trunk-00000001")
    assert line == f"svi: l'AMI d'Asterisk, 127.0.0.1:{port} : Connection refused"


# What is left on the disk


def test_nothing_that_was_keyed_or_given_is_left_in_the_home(used_home: Path) -> None:
    svi(used_home, "call", "--keys", f"92 {NUMBER} {WRONG} {PASSWORD}", "--caller", MOBILE)
    kept = held(used_home)
    for typed in (PASSWORD, WRONG, MOBILE, MOBILE.removeprefix("+33")):
        assert typed.encode() not in kept


def test_others_can_not_read_the_home(used_home: Path) -> None:
    modes = {path: stat.S_IMODE(path.stat().st_mode) for path in [used_home, *used_home.rglob("*")]}
    assert used_home / "keys.json" in modes
    assert [path for path, mode in modes.items() if mode & 0o077] == []


@pytest.fixture
def voice(home: Path) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [SVI, "voice"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        env=environment(home, {"SVI_AGI_PORT": 0}),
    )
    with process:
        yield process
        process.kill()


def test_a_voice_server_starts_when_it_has_its_prompts_and_ends_when_told(
    home: Path, request: pytest.FixtureRequest
) -> None:
    output(home, "prompts", "build")
    assert stat.S_IMODE(home.stat().st_mode) == 0o700
    process: subprocess.Popen[str] = request.getfixturevalue("voice")
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    told = time.monotonic()
    process.send_signal(signal.SIGTERM)
    _, complaints = process.communicate(timeout=SECONDS)
    assert time.monotonic() - told < STOP_SECONDS
    assert process.returncode == 0
    # Nobody told it of a manager: operators are told what that means (D15).
    assert [json.loads(line)["event"] for line in complaints.splitlines()] == ["calls_not_moved"]
