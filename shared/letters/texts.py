"""The texts of our letters, read from one TOML file and checked before anything is printed."""

import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from string import Formatter

from pydantic import BaseModel, ConfigDict, ValidationError

from shared import notices, resets
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
    try:
        texts = Texts.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise SettingsError(f"{path}: cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path}: not TOML: {error}") from None
    except ValidationError as error:
        fault = error.errors()[0]
        key = ".".join(str(part) for part in fault["loc"])
        raise SettingsError(f"{path}: {key}: {fault['msg']}") from None
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
