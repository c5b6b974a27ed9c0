"""Reads the call script from the files that admins edit.

Everything is checked when it is read: a call never meets a name that leads nowhere.
"""

import tomllib
from collections.abc import Callable, Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, Field, ValidationError

import ivr.handlers as _handlers  # noqa: F401 - imported so that they register themselves
from ivr.errors import ScriptError
from ivr.prompts import Catalogue
from ivr.script import Delays, Department, Line, Script
from ivr.step import CaisseId, PromptId, Reference, ScriptTable, Step, StepId

T = TypeVar("T")

DEFAULT_FOLDER = Path(__file__).with_name("dialplans")

# Said of pydantic's findings, by its error type; admins read French.
REASONS = {
    "missing": "clé manquante",
    "extra_forbidden": "clé inconnue",
    "string_type": "il faut un texte entre guillemets",
    "float_type": "il faut un nombre",
    "float_parsing": "il faut un nombre",
    "int_type": "il faut un nombre entier",
    "greater_than": "il faut un nombre positif",
    "tuple_type": "il faut une liste [ … ]",
    "model_type": "il faut une table",
    "dict_type": "il faut une table",
    "too_long": "la liste est trop longue (quatre choix au plus)",
    "too_short": "la liste est vide",
    "string_pattern_mismatch": "valeur impossible",
}


class _Service(ScriptTable):
    first_step: StepId
    failure_step: StepId


class _LinesFile(ScriptTable):
    service: _Service
    lines: dict[str, Line] = Field(min_length=1)


class _CaissesFile(ScriptTable):
    caisses: dict[str, str]
    departments: dict[str, Department]


def load_script(folder: Path = DEFAULT_FOLDER) -> Script:
    """Read and check a folder; ScriptError with every finding."""
    reader = _Reader(folder)
    lines = reader.table("lines.toml", _LinesFile.model_validate)
    caisses = reader.table("caisses.toml", _CaissesFile.model_validate)
    delays = reader.table("dialogue.toml", Delays.model_validate)
    steps = reader.steps()
    catalogue = reader.catalogue()
    if lines is None or caisses is None or delays is None or catalogue is None:
        raise ScriptError(*reader.findings)
    script = Script(
        first_step=lines.service.first_step,
        failure_step=lines.service.failure_step,
        lines=lines.lines,
        caisses=caisses.caisses,
        departments=caisses.departments,
        steps={name: step for name, (_, step) in steps.items()},
        delays=delays,
        catalogue=catalogue,
    )
    reader.check_references("lines.toml", lines, script)
    reader.check_references("caisses.toml", caisses, script)
    for name, (file, step) in steps.items():
        reader.check_references(file, step, script, name)
    if reader.findings:
        raise ScriptError(*reader.findings)
    return script


class _Reader:
    """Reads the files of one folder and keeps what is wrong with them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.findings: list[str] = []

    def table(self, name: str, validate: Callable[[Any], T]) -> T | None:
        """Read one file whole; None, and findings, if it is wrong."""
        data = self._toml(name)
        if data is None:
            return None
        try:
            return validate(data)
        except ValidationError as error:
            self._keep(name, error)
            return None

    def steps(self) -> dict[str, tuple[str, Step]]:
        """Read steps and menus: (file, step) by name."""
        found: dict[str, tuple[str, Step]] = {}
        for file in ("steps.toml", "menus.toml"):
            for name, table in (self._toml(file) or {}).items():
                if name in found:
                    self._find(file, name, f"existe déjà dans {found[name][0]}")
                step = self._step(file, name, table)
                if step is not None:
                    found[name] = (file, step)
        return found

    def catalogue(self) -> Catalogue | None:
        """Read the prompts."""
        try:
            return Catalogue.load(self.folder)
        except ScriptError as error:
            self.findings += error.findings
            return None

    def check_references(self, file: str, table: object, script: Script, key: str = "") -> None:
        """Look every name up that the table mentions."""
        known: dict[type[Reference], Mapping[str, object]] = {
            PromptId: script.catalogue.texts,
            StepId: script.steps,
            CaisseId: script.caisses,
        }
        for path, name in _references(table, key):
            names = known[type(name)]
            if name not in names:
                close = get_close_matches(name, names, 1)
                hint = f" ; vouliez-vous « {close[0]} » ?" if close else ""
                self._find(file, path, f"« {name} » n'existe pas{hint}")

    def _step(self, file: str, name: str, table: Any) -> Step | None:
        if not isinstance(table, dict):
            self._find(file, name, "il faut une table [étape]")
            return None
        fields = {"handler": "menu", **table} if file == "menus.toml" else dict(table)
        handler = fields.pop("handler", None)
        if handler not in Step.handlers:
            known = ", ".join(sorted(Step.handlers))
            self._find(file, f"{name}.handler", f"« {handler} » n'existe pas ; connus : {known}")
            return None
        try:
            return Step.named(handler, fields)
        except ValidationError as error:
            self._keep(file, error, name)
            return None

    def _toml(self, name: str) -> dict[str, Any] | None:
        path = self.folder / name
        try:
            return tomllib.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            self.findings.append(f"{path}: ne peut pas être lu : {error.strerror}")
        except UnicodeDecodeError:
            self.findings.append(f"{path}: doit être enregistré en UTF-8")
        except tomllib.TOMLDecodeError as error:
            self.findings.append(f"{path}: n'est pas du TOML : {error}")
        return None

    def _keep(self, file: str, error: ValidationError, prefix: str = "") -> None:
        for fault in error.errors():
            key = ".".join(str(part) for part in (prefix, *fault["loc"]) if part != "")
            self._find(file, key, REASONS.get(fault["type"], fault["msg"]))

    def _find(self, file: str, key: str, reason: str) -> None:
        self.findings.append(f"{self.folder / file}: {key}: {reason}")


def _references(value: object, path: str) -> Iterator[tuple[str, Reference]]:
    """Give every reference in a table, with the path of its key."""
    if isinstance(value, Reference):
        yield path, value
        return
    if isinstance(value, BaseModel):
        parts: Any = ((name, getattr(value, name)) for name in type(value).model_fields)
    elif isinstance(value, dict):
        parts = value.items()
    elif isinstance(value, tuple):
        parts = enumerate(value)
    else:
        return
    for name, part in parts:
        yield from _references(part, f"{path}.{name}".lstrip("."))
