"""The texts of our letters: what `svi check` says of wrong ones (R09, R25, D14)."""

from pathlib import Path

import pytest

from shared.errors import SettingsError
from shared.letters.texts import DEFAULT_FILE, LONGEST, load_texts

SHIPPED = DEFAULT_FILE.read_text(encoding="utf-8")


@pytest.mark.parametrize("template", LONGEST)
def test_a_letter_says_one_thing_and_whom_to_call(template: str) -> None:
    variables = dict.fromkeys(LONGEST[template], "01234567")
    text = load_texts().letters[template].fill(variables)
    assert "3230" in text
    assert text.count("0123") == 1
    assert ("0123 4567" in text) == ("password" in variables)  # D14
    assert ("Ne le donnez jamais" in text) == ("password" in variables)
    assert "://" not in text


@pytest.mark.parametrize(
    ("right", "wrong", "reason"),
    [
        pytest.param("[letters.password]", "[letters.pass]", "letters: il faut ces lettres",
                     id="a letter is missing, one is unknown"),
        pytest.param("{password}", "", "letters.password.text: il faut la variable {password}",
                     id="variable left out"),
        pytest.param("{number}", "{number} {password}",
                     "letters.letter-identifier.text: il faut la variable {number}",
                     id="number and password together"),
        pytest.param("{number}", "{number} {number}", "il faut la variable", id="twice"),
        pytest.param("{number}", "{number!r}", "il faut la variable", id="altered"),
        pytest.param("P{digits}", "P{digits", "une accolade manque", id="open brace"),
        pytest.param("former_address", "older_address", "former_address: clé manquante",
                     id="key is missing"),
        pytest.param('subject = "Votre nouveau', 'object = "Votre nouveau',
                     "letters.password.subject: clé manquante", id="subject is missing"),
        pytest.param("[letters.password]", "[letters.password", "n'est pas du TOML", id="not TOML"),
    ],
)  # fmt: skip
def test_a_wrong_text_is_refused(tmp_path: Path, right: str, wrong: str, reason: str) -> None:
    file = tmp_path / "letters.toml"
    assert right in SHIPPED
    file.write_text(SHIPPED.replace(right, wrong, 1), encoding="utf-8")
    with pytest.raises(SettingsError) as error:
        load_texts(file)
    assert str(error.value).startswith(f"{file}: ")
    assert reason in str(error.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="ne peut pas être lu"):
        load_texts(tmp_path / "none.toml")
