"""The texts of our letters, read from one TOML file and checked before anything is printed."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from string import Formatter

from pydantic import BaseModel, ConfigDict

from shared import notices, resets, settings_file
from shared.errors import SettingsError

DEFAULT_FILE = Path(__file__).parents[1] / "letters.toml"

# What each letter is filled with, at its longest: never a password and a number together (D14).
LONGEST: Mapping[str, Mapping[str, str]] = {
    resets.Template.PASSWORD: {"password": "00000000"},
    resets.Template.LETTER: {"password": "00000000"},
    notices.Template.IDENTIFIER_LETTER: {"number": "0000000"},
    notices.Template.PROVISIONAL: {"digits": "00000000"},
}


class Text(BaseModel):
    """One letter, not filled yet."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    subject: str
    text: str

    def fill(self, variables: Mapping[str, str]) -> str:
        """Give the text with its variables; a password in groups, as people key it (D14)."""
        return self.text.format_map(
            {
                name: f"{value[:4]} {value[4:]}" if name == "password" else value
                for name, value in variables.items()
            }
        )


class Texts(BaseModel):
    """All of `letters.toml`, by template."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    former_address: str
    letters: Mapping[str, Text]


def load_texts(path: Path = DEFAULT_FILE) -> Texts:
    """Read and check the texts; SettingsError « file: key: reason » for the first fault."""
    texts = settings_file.load(path, Texts)
    for finding in _findings(texts):
        raise SettingsError(f"{path}: {finding}")
    return texts


def _findings(texts: Texts) -> Iterator[str]:
    if texts.letters.keys() != LONGEST.keys():
        yield f"letters: il faut ces lettres et nulle autre : {', '.join(LONGEST)}"
        return
    for name, text in texts.letters.items():
        yield from (f"letters.{name}.text: {finding}" for finding in _of_text(name, text))


def _of_text(name: str, text: Text) -> Iterator[str]:
    try:
        parts = list(Formatter().parse(text.text))
    except ValueError:
        yield "une accolade manque ; une variable s'écrit {nom}"
        return
    found = [field for _, field, _, _ in parts if field is not None]
    if found != list(LONGEST[name]) or any(spec or how for _, _, spec, how in parts):
        yield f"il faut la variable {{{', '.join(LONGEST[name])}}} une fois, telle quelle et seule"
