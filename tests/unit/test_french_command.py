"""What click says of itself is French: its sentences go through gettext (svi/locale)."""

import ast
import gettext
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

import svi
from svi.__main__ import cli

LOCALE = Path(svi.__file__).with_name("locale")
FRENCH = gettext.translation("messages", LOCALE, ["fr"])
SOURCE = LOCALE / "fr/LC_MESSAGES/messages.po"

# Modules of click that say something to who runs a command, and what in them only programmers
# read, or commands that we have none of.
SPOKEN = ("core", "decorators", "exceptions", "formatting", "parser", "termui", "types")
UNSAID = (
    "%(prog)s, version",
    "Arguments take exactly",
    "Boolean option",
    "Choice(",
    "Could not determine",
    "DeprecationWarning",
    "Invalid start character",
    "Name '",
    "No options defined",
    "Press any key",
    "Show the version",
    "Unknown color",
    "Value must be an iterable",
)
QUOTED = re.compile(r"\{(\w+)(?:!r)?\}")
ENGLISH = (
    "Usage:",
    "Options:",
    "Commands:",
    "TEXT",
    "INTEGER",
    "PATH",
    "FILE",
    "Show this message",
    "Confirm the action",
    "[required]",
    "default:",
)


def sentences() -> Iterator[Sequence[str]]:
    """Give what click has translated: a sentence, or one for one thing and one for several."""
    for module in SPOKEN:
        tree = ast.parse(Path(click.__file__).with_name(f"{module}.py").read_text("utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in {"_", "ngettext"}:
                said = [
                    one.value
                    for one in node.args
                    if isinstance(one, ast.Constant) and isinstance(one.value, str)
                ]
                if said and not said[0].startswith(UNSAID):
                    yield said


def test_every_sentence_of_click_s_has_its_french() -> None:
    """Those of the click that is installed: a later one may have others."""
    found = list(sentences())
    assert ["Usage:"] in found
    assert max(map(len, found)) == 2
    for one, *several in found:
        for count in (1, 2):
            said = FRENCH.ngettext(one, several[0], count) if several else FRENCH.gettext(one)
            assert said not in {one, *several}
            assert set(QUOTED.findall(said)) <= set(QUOTED.findall("".join([one, *several])))


def test_the_compiled_sentences_are_those_of_the_source() -> None:
    for entry in SOURCE.read_text("utf-8").split("\n\n")[1:]:
        pairs = re.findall(r'^(msg\w+)(?:\[\d\])? (".*")$', entry, re.MULTILINE)
        told: list[tuple[str, str]] = [(key, ast.literal_eval(text)) for key, text in pairs]
        match [text for _, text in told]:
            case [one, french]:
                assert FRENCH.gettext(one) == french
            case [one, several, french, of_several]:
                assert FRENCH.ngettext(one, several, 1) == french
                assert FRENCH.ngettext(one, several, 2) == of_several


def all_commands(group: click.Group = cli, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    yield path
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if isinstance(command, click.Group):
            yield from all_commands(command, (*path, name))
        else:
            yield (*path, name)


@pytest.mark.parametrize("language", ["en_US.UTF-8", "C", "fr_FR.UTF-8"])
def test_no_help_says_anything_in_english(language: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the machine speaks."""
    monkeypatch.setenv("LC_ALL", language)
    for path in all_commands():
        shown = CliRunner().invoke(cli, [*path, "--help"]).output
        assert shown.startswith("Usage : ")
        assert shown.count("Montre cette aide.") == 1
        assert [word for word in ENGLISH if word in shown] == [], path


WRONG: dict[str, tuple[Sequence[str], str]] = {
    "an option": (["sms", "list", "--jsn"], "Il n'y a pas d'option --jsn. Peut-être '--json' ?"),
    "a command": (["sms", "drian"], "Il n'y a pas de commande drian. Peut-être 'drain' ?"),
    "no argument": (["sms", "cancel"], "Il manque l'argument 'ID'."),
    "no option": (["accounts", "show"], "Il manque l'option '--caisse'."),
    "one too many": (["check", "tout"], "Argument de trop : tout"),
    "no value": (["calls", "--last"], "L'option --last demande une valeur."),
    "a value too many": (["calls", "--json=1"], "L'option --json ne prend pas de valeur."),
    "no number": (
        ["calls", "--last", "dix"],
        "Valeur impossible pour '--last' : « dix » n'est pas un nombre possible ici.",
    ),
    "out of range": (
        ["calls", "--last", "0"],
        "Valeur impossible pour '--last' : 0 n'est pas dans les bornes x>=1.",
    ),
    "no identifier": (
        ["sms", "cancel", "12"],
        "Valeur impossible pour 'ID' : « 12 » n'est pas un identifiant (UUID).",
    ),
    "a choice": (
        ["incident", "raise", "--channel", "fax"],
        "Valeur impossible pour '--channel' : « fax » n'est aucun de ",
    ),
}


@pytest.mark.parametrize(("arguments", "said"), WRONG.values(), ids=WRONG)
def test_what_is_wrong_is_said_in_french(arguments: Sequence[str], said: str) -> None:
    shown = CliRunner().invoke(cli, arguments)
    assert shown.exit_code == 2
    assert f"Erreur : {said}" in shown.output


def test_no_answer_to_a_question_is_no() -> None:
    shown = CliRunner().invoke(cli, ["campaigns", "cancel", "rentree"], input="n\n")
    assert shown.output.endswith("Abandon.\n")
