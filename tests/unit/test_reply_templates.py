"""What is answered at a number where replies are read: what `svi check` says of it (D14)."""

from pathlib import Path

import pytest

from shared.inbound import Keyword
from sms import gsm7
from sms.templates import DEFAULT_FILE, Templates, check

SHIPPED = DEFAULT_FILE.read_text(encoding="utf-8")
WITHOUT = SHIPPED[: SHIPPED.index("[inbound.")]
WORDS = 'stop = "a"\naide = "b"\ncontact = "c"\n'


def written(folder: Path, tables: str) -> Path:
    path = folder / "templates.toml"
    path.write_text(WITHOUT + tables, encoding="utf-8")
    return path


def test_ours_answer_every_word_in_one_sms() -> None:
    texts = Templates.load()
    assert texts.numbers == {"36180"}
    for word in Keyword:
        said = texts.render(f"inbound.36180.{word}", {}).text
        assert texts.sender(f"inbound.36180.{word}") == "36180"
        assert len(gsm7.segments(said)) == 1
        assert "Caf" in said
    assert "mots de passe" in texts.render("inbound.36180.stop", {}).text  # which still come
    assert "édité par" in texts.render("inbound.36180.contact", {}).text


def test_an_installation_needs_no_number(tmp_path: Path) -> None:
    path = written(tmp_path, "")
    assert check(path) == []
    assert Templates.load(path).numbers == set()


def test_several_numbers_answer_for_themselves(tmp_path: Path) -> None:
    texts = Templates.load(
        written(tmp_path, f"[inbound.33757590000]\n{WORDS}[inbound.36180]\n{WORDS}")
    )
    assert texts.numbers == {"33757590000", "36180"}
    assert texts.sender("inbound.33757590000.aide") == "33757590000"
    assert texts.render("inbound.36180.aide", {}).text == "b"


def test_no_client_can_have_a_reply_sent() -> None:
    [misfit] = Templates.load().judge("inbound.36180.stop", {})
    assert (misfit.where, misfit.reason) == ("template", "unknown")


FAULTS = {
    "a word missing": ('stop = "a"\naide = "b"', "inbound.36180: il faut stop, contact, aide"),
    "a word too many": (f'{WORDS}merci = "d"', "inbound.36180: il faut stop, contact, aide"),
    "no text": ('stop = 1\naide = "b"\ncontact = "c"', "inbound.36180: il faut stop"),
    "no GSM-7": (WORDS.replace('"a"', '"arrêt"'), "inbound.36180.stop: hors de l'alphabet"),
    "too long": (WORDS.replace('"b"', f'"{161 * "b"}"'), "inbound.36180.aide: 161 septets"),
    "a link": (WORDS.replace('"c"', '"https://caf.fr"'), "inbound.36180.contact: pas d'adresse"),
    "a variable": (WORDS.replace('"c"', '"{nom}"'), "inbound.36180.contact: il faut les variables"),
}


@pytest.mark.parametrize(("words", "finding"), FAULTS.values(), ids=FAULTS)
def test_a_wrong_reply_is_refused(tmp_path: Path, words: str, finding: str) -> None:
    path = written(tmp_path, f"[inbound.36180]\n{words}")
    [found] = check(path)
    assert found.startswith(f"{path}: {finding}")


@pytest.mark.parametrize("number", ["0757590000", "Caf", '"+33757590000"', "36", "3" * 16])
def test_a_number_is_written_as_one(tmp_path: Path, number: str) -> None:
    path = written(tmp_path, f"[inbound.{number}]\n{WORDS}")
    bare = number.strip('"')
    assert check(path) == [
        f"{path}: inbound.{bare}: il faut un numéro court, ou international sans son +"
    ]


@pytest.mark.parametrize("table", ["inbound = 1\n", "[inbound]\n36180 = 1\n"])
def test_what_is_no_table_is_refused(tmp_path: Path, table: str) -> None:
    path = tmp_path / "templates.toml"
    path.write_text(table + WITHOUT if "[" not in table else WITHOUT + table, encoding="utf-8")
    assert len(check(path)) == 1


SENDER = '[notice.avis]\nsender = "{}"\ntext = "Caf"\n'


@pytest.mark.parametrize("number", ["36180", "262692345678"])
def test_a_number_is_a_sender_where_its_replies_are_read(tmp_path: Path, number: str) -> None:
    notice = SENDER.format(number)
    assert check(written(tmp_path, f"{notice}[inbound.{number}]\n{WORDS}")) == []
    unread = written(tmp_path, notice)
    unheard = "un numéro où rien ne serait lu ; il lui faut [inbound.NUMÉRO]"
    assert check(unread) == [f"{unread}: notice.avis.sender: {unheard}"]
