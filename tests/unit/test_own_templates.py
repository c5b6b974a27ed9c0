"""Templates of an installation's own: what `svi check` says of them, what a client may give."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from shared.client_messages import Misfit
from shared.models import Route
from shared.resets import Template
from sms import gsm7
from sms.templates import DEFAULT_FILE, LONGEST, Templates, check

SHIPPED = DEFAULT_FILE.read_text(encoding="utf-8")
ROOM = 160 - len("Caf : ")


def written(folder: Path, tables: str) -> Path:
    """Give a file with the store's own texts and these tables."""
    path = folder / "templates.toml"
    path.write_text(SHIPPED[: SHIPPED.index("[notice.")] + tables, encoding="utf-8")
    return path


def notice(text: str, variables: str = "", name: str = "avis", sender: str = "Caf") -> str:
    given = f"variables = {{ {variables} }}\n" if variables else ""
    return f'[notice.{name}]\nsender = "{sender}"\ntext = "{text}"\n{given}'


def loaded(folder: Path, table: str) -> Templates:
    return Templates.load(written(folder, table))


def test_ours_are_one_sms_at_their_longest() -> None:
    texts = Templates.load()
    own = {name for name in texts.longest if name.startswith("notice.")}
    assert own == {"notice.rendez-vous", "notice.message-a-lire"}
    for name in own:
        assert len(gsm7.segments(texts.render(name, texts.longest[name]).text)) == 1
        assert texts.sender(name) == "Caf"


def test_an_installation_needs_none(tmp_path: Path) -> None:
    path = written(tmp_path, "")
    assert check(path) == []
    assert Templates.load(path).longest == LONGEST


RIGHT = {
    "no variable": notice("Caf : bonjour"),
    "an empty table of variables": notice("Caf : bonjour") + "variables = {}",
    "one SMS at its longest": notice("Caf : {a}", f'a = "{"x" * ROOM}"'),
    "a longest value that is transliterated": notice("Caf : {a}", 'a = "fête « d\u2019août »"'),
    "a variable twice": notice("Caf : {a}, {a}", 'a = "x"'),
}


def test_one_may_go_by_mail_too(tmp_path: Path) -> None:
    """For campaigns (R24): with every letter, and judged by the same longest values."""
    table = notice("Caf : {a}", 'a = "été"') + 'mail = { subject = "Avis", text = "Fête : {a}" }'
    path = written(tmp_path, table)
    assert check(path) == []
    mails = Templates.load(path, Route.MAIL)
    assert mails.render("notice.avis", {"a": "août"}).text == "Fête : août"
    assert mails.subject("notice.avis") == "Avis"
    assert mails.judge("notice.avis", {"a": "août"}) == [Misfit("variables.a", "too_long")]
    assert mails.judge("notice.avis", {"a": "mai"}) == []


@pytest.mark.parametrize("table", RIGHT.values(), ids=RIGHT)
def test_a_right_template_is_taken(tmp_path: Path, table: str) -> None:
    path = written(tmp_path, table)
    assert check(path) == []
    assert "notice.avis" in Templates.load(path).longest


FAULTS = {
    "one septet too many": (
        notice("Caf : {a}", f'a = "{"x" * (ROOM + 1)}"'),
        "notice.avis.text: 161 septets au plus long",
    ),
    "too many by transliteration": (
        notice("Caf : {a}", f'a = "{"x" * (ROOM - 2)}…"'),
        "notice.avis.text: 161 septets au plus long",
    ),
    "no GSM-7": (notice("Caf : fête"), "notice.avis.text: hors de l'alphabet GSM-7 : ê"),
    "a link": (notice("Voir https://caf.fr"), "notice.avis.text: pas d'adresse"),
    "a link by a variable": (
        notice("Voir {a}", 'a = "exemple.fr"'),
        "notice.avis.text: pas d'adresse",
    ),
    "a variable that is not filled": (
        notice("Caf : {a}"),
        "notice.avis.text: il faut les variables ",
    ),
    "a variable that is not said": (
        notice("Caf", 'a = "x"'),
        "notice.avis.text: il faut les variables {a}",
    ),
    "a way to the program": (
        notice("{a.__class__}", 'a = "x"'),
        "notice.avis.text: il faut les variables {a}",
    ),
    "a wrong sender": (notice("Caf", sender="Caf !"), "notice.avis.sender: il faut 1 à 11"),
    "a name in capitals": (notice("Caf", name="Avis"), "notice.Avis: un nom s'écrit"),
    "a name with a dot": (notice("Caf", name='"a.b"'), "notice.a.b: un nom s'écrit"),
    "no text": ('[notice.avis]\nsender = "Caf"', "notice.avis: il faut sender, text et variables"),
    "a key too many": (notice("Caf") + "urgent = true", "notice.avis: il faut sender, text"),
    "a mail without subject": (
        notice("Caf") + 'mail = { text = "Bonjour" }',
        "notice.avis.mail: il faut subject et text, deux textes entre guillemets",
    ),
    "a mail that leaves a variable out": (
        notice("{a}", 'a = "x"') + 'mail = { subject = "Avis", text = "Bonjour" }',
        "notice.avis.mail.text: il faut les variables {a}, toutes, telles quelles et seules",
    ),
    "an empty longest value": (notice("{a}", 'a = ""'), "notice.avis: il faut sender, text"),
    "a number for a longest value": (notice("{a}", "a = 9"), "notice.avis: il faut sender, text"),
    "a variable of another shape": (notice("{A}", 'A = "x"'), "notice.avis: il faut sender, text"),
    "variables that are none": (
        notice("Caf") + 'variables = "a"',
        "notice.avis: il faut sender, text",
    ),
    "no name": ('[notice]\nsender = "Caf"', "notice.sender: il faut sender, text"),
    "no table": ("", "notice: modèle inconnu"),
}


@pytest.mark.parametrize(("table", "finding"), FAULTS.values(), ids=FAULTS)
def test_a_wrong_template_is_refused(tmp_path: Path, table: str, finding: str) -> None:
    path = written(tmp_path, table)
    if not table:
        path.write_text("notice = 1\n" + path.read_text("utf-8"), encoding="utf-8")
    [found] = check(path)
    assert found.startswith(f"{path}: {finding}")


def test_the_store_s_own_have_no_variables_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "templates.toml"
    path.write_text(SHIPPED.replace("[code]", '[code]\nvariables = { code = "0" }'), "utf-8")
    [found] = check(path)
    assert found.startswith(f"{path}: code: il faut sender et text")


# A client's message


WHEN = {"jour": "mercredi 30 septembre", "heure": "23 h 59"}
TOO_LONG, MISSING = Misfit("variables.heure", "too_long"), Misfit("variables.heure", "missing")
UNKNOWN, LINK = Misfit("template", "unknown"), Misfit("variables", "link")
WIDE_DOMAIN = "exemple\uff0efr"  # its dot becomes one

VARIABLES: dict[str, tuple[Mapping[str, str], list[Misfit]]] = {
    "the longest": (WHEN, []),
    "shorter": ({"jour": "lundi", "heure": "9 h"}, []),
    "seven letters in GSM-7": (WHEN | {"heure": "âêîôûëï"}, []),
    "eight of them": (WHEN | {"heure": "âêîôûëœ"}, [TOO_LONG]),  # œ is oe
    "one letter too many": (WHEN | {"heure": "23 h 59."}, [TOO_LONG]),
    "a letter of two septets": (WHEN | {"heure": "23 h 5€"}, [TOO_LONG]),
    "digits that are written in groups": (WHEN | {"heure": "1234567"}, [TOO_LONG]),
    "two too long": (
        {"jour": "x" * 22, "heure": "x" * 8},
        [Misfit("variables.jour", "too_long"), TOO_LONG],
    ),
    "one missing": ({"jour": "lundi"}, [MISSING]),
    "one too many": (WHEN | {"nir": "1"}, [Misfit("variables", "extra_forbidden")]),
    "a link": (WHEN | {"jour": "sur https://x"}, [LINK]),
    "a domain": (WHEN | {"jour": "exemple.fr"}, [LINK]),
    "a domain in wide letters": (WHEN | {"jour": WIDE_DOMAIN}, [LINK]),
}


@pytest.mark.parametrize(("variables", "misfits"), VARIABLES.values(), ids=VARIABLES)
def test_what_a_client_can_have_said(variables: Mapping[str, str], misfits: list[Misfit]) -> None:
    assert Templates.load().judge("notice.rendez-vous", variables) == misfits


@pytest.mark.parametrize("template", ["notice.rappel", "", "notice.", "rendez-vous", *LONGEST])
def test_what_no_client_can_have_sent(template: str) -> None:
    """The store's own are the store's alone, whatever fills them."""
    assert Templates.load().judge(template, LONGEST.get(template, WHEN)) == [UNKNOWN]


def test_a_variable_is_not_filled_again() -> None:
    text = Templates.load().render("notice.rendez-vous", WHEN | {"jour": "{heure}"}).text
    assert "rendez-vous {heure} à 23 h 59" in text


def test_a_link_across_two_variables_is_seen(tmp_path: Path) -> None:
    texts = loaded(tmp_path, notice("{a}{b}", 'a = "exemple", b = "x fr"'))
    assert texts.judge("notice.avis", {"a": "exemple", "b": ".fr"}) == [LINK]


def test_what_is_judged_right_is_one_sms(tmp_path: Path) -> None:
    """At the longest value of every variable, each of them exactly that long."""
    texts = loaded(tmp_path, notice("{a}{b}", f'a = "{"x" * 80}", b = "{"é" * 80}"'))
    given = {"a": "€" * 40, "b": "…" * 26 + "12"}
    assert texts.judge("notice.avis", given) == []
    assert len(gsm7.encode(texts.render("notice.avis", given).text)) == 160


def test_a_misfit_repeats_nothing() -> None:
    """What a client sends may be personal."""
    for template in ("notice.Dupont", Template.PASSWORD, "notice.rendez-vous"):
        for misfit in Templates.load().judge(template, {"Dupont": "Dupont" * 9}):
            assert "Dupont" not in repr(misfit)
