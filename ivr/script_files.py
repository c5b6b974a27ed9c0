"""Reads the call script from the files that admins edit.

Everything is checked when it is read: a call never meets a name that leads nowhere.
"""

import tomllib
from collections.abc import Collection, Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, TypeVar, cast

from pydantic import BaseModel, Field, ValidationError

from ivr.errors import ScriptError
from ivr.handlers.choose_dossier import dossier_prompt
from ivr.handlers.menu import (  # its package's import makes every handler known
    MOST_CHOICES,
    Menu,
)
from ivr.hours import Hours
from ivr.prompts import Catalogue
from ivr.script import Announcement, Delays, Department, Line, LineKind, Platform, Platforms, Script
from ivr.step import (
    CaisseId,
    HoursId,
    LineId,
    PlatformId,
    PromptId,
    Reference,
    ScriptTable,
    Step,
    StepId,
)
from shared.reasons import reason_in_french

Table = TypeVar("Table", bound=ScriptTable)

DEFAULT_FOLDER = Path(__file__).with_name("dialplans")
STEP_FILES = ("steps.toml", "menus.toml")


class _Service(ScriptTable):
    first_step: StepId
    failure_step: StepId
    session_ended_step: StepId


class _LinesFile(ScriptTable):
    service: _Service
    lines: dict[str, Line] = Field(min_length=1)


class _Department(Department):
    choices: dict[Annotated[str, Field(pattern="^[1-8]$")], CaisseId] = Field(min_length=1)


class _CaissesFile(ScriptTable):
    caisses: dict[str, str]
    departments: dict[str, _Department]


class _HoursFile(ScriptTable):
    hours: dict[str, Hours] = Field(default_factory=dict)


class _PlatformsFile(Platforms):
    # The extension that the dialplan looks for: `_[a-z0-9].`
    platforms: dict[Annotated[str, Field(pattern="^[a-z0-9][A-Za-z0-9-]+$")], Platform] = Field(
        default_factory=dict
    )


class _AnnouncementsFile(ScriptTable):
    announcements: dict[str, Announcement] = Field(default_factory=dict)


class _DialogueFile(Delays):
    """Delays that a caller can bear."""

    first_key: float = Field(gt=0, le=60)
    between_keys: float = Field(gt=0, le=60)
    tries: int = Field(gt=0, le=10)


class _Files(ScriptTable):
    """The files that are one table each, by their names."""

    lines: _LinesFile
    caisses: _CaissesFile
    hours: _HoursFile
    platforms: _PlatformsFile
    announcements: _AnnouncementsFile
    dialogue: _DialogueFile


TABLES: Mapping[str, type[ScriptTable]] = {
    name: cast(type[ScriptTable], field.annotation) for name, field in _Files.model_fields.items()
}
NAMES: Mapping[type[Reference], str] = {  # what is named in the file's table of the same name
    LineId: "lines",
    CaisseId: "caisses",
    HoursId: "hours",
    PlatformId: "platforms",
}


def load_script(folder: Path = DEFAULT_FOLDER) -> Script:
    """Read and check a folder; ScriptError with every finding."""
    reader = _Reader(folder)
    files = reader.files()
    catalogue = reader.catalogue()
    steps = reader.steps()
    reader.check_spoken()
    reader.check_names()
    if files is not None and not reader.findings:
        reader.check_platforms(files.platforms.platforms)
        reader.check_advisers(files.lines.lines, files.platforms.platforms)
        reader.check_reached(files.lines, steps)
    if reader.findings or files is None or catalogue is None:
        raise ScriptError(*reader.findings)
    return Script(
        first_step=files.lines.service.first_step,
        failure_step=files.lines.service.failure_step,
        session_ended_step=files.lines.service.session_ended_step,
        lines=files.lines.lines,
        caisses=files.caisses.caisses,
        departments=files.caisses.departments,
        hours=files.hours.hours,
        platforms=files.platforms,
        announcements=files.announcements.announcements,
        steps=steps,
        delays=files.dialogue,
        catalogue=catalogue,
    )


class _Reader:
    """Reads the files of one folder and keeps what is wrong with them.

    `names` has what may be referred to, by kind; a kind whose file can't be read is absent, so that
    one fault doesn't show up as many.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.findings: list[str] = []
        self.names: dict[type[Reference], Collection[str]] = {}
        self._tables: list[tuple[str, str, ScriptTable]] = []  # file, key, what was read there
        self._step_files: dict[str, str] = {}  # by name of the step, be it right or wrong

    def files(self) -> _Files | None:
        """Read the files that are tables; None, and findings, if one of them is wrong."""
        read: dict[str, ScriptTable | None] = {}
        for name, kind in TABLES.items():
            file = f"{name}.toml"
            data = self._toml(file)
            read[name] = None if data is None else self._validated(file, "", kind, data)
        for reference, name in NAMES.items():
            if (table := read[name]) is not None:
                self.names[reference] = getattr(table, name)
        return None if None in read.values() else _Files.model_validate(read)

    def steps(self) -> dict[str, Step]:
        """Read steps and menus."""
        steps: dict[str, Step] = {}
        files = {file: self._toml(file) for file in STEP_FILES}
        for file, tables in files.items():
            for name, table in (tables or {}).items():
                if name in self._step_files:
                    self._find(file, name, f"existe déjà dans {self._step_files[name]}")
                self._step_files[name] = file
                step = self._step(file, name, table)
                if step is not None:
                    steps[name] = step
        if None not in files.values():
            self.names[StepId] = self._step_files
        return steps

    def catalogue(self) -> Catalogue | None:
        """Read the prompts."""
        try:
            catalogue = Catalogue.load(self.folder)
        except ScriptError as error:
            self.findings += error.findings
            return None
        self.names[PromptId] = catalogue.ids
        return catalogue

    def check_names(self) -> None:
        """Look every name up that a table refers to; find the lists without any."""
        for file, key, table in self._tables:
            for path, leaf in _leaves(table, key):
                names = self.names.get(type(leaf)) if isinstance(leaf, Reference) else ()
                if names is not None and leaf not in names:
                    reason = f"« {leaf} » n'existe pas{_hint(leaf, names)}" if leaf else "est vide"
                    self._find(file, path, reason)

    def check_spoken(self) -> None:
        """Find the caisses whose dossiers no prompt names (D11)."""
        prompts = self.names.get(PromptId)
        for caisse in self.names.get(CaisseId, ()):
            prompt = dossier_prompt(caisse)
            if prompts is not None and prompt not in prompts:
                self._find(
                    "caisses.toml", f"caisses.{caisse}", f"il manque le message « {prompt} »"
                )

    def check_platforms(self, platforms: Mapping[str, Platform]) -> None:
        """Find who is answered by two platforms, and overflows that go round in circles."""
        answered: dict[str, str] = {}  # a kind of line, or a caisse: by which platform
        for name, platform in platforms.items():
            kind = [] if platform.kind is None else [("kind", platform.kind)]
            caisses = enumerate(platform.caisses or ())
            for key, whom in [*kind, *((f"caisses.{place}", one) for place, one in caisses)]:
                other = answered.setdefault(whom, name)
                if other != name:
                    path = f"platforms.{name}.{key}"
                    self._find("platforms.toml", path, f"« {whom} » est déjà dans « {other} »")
            if _goes_round(name, platforms):
                path = f"platforms.{name}.overflow"
                self._find("platforms.toml", path, "les débordements tournent en rond")

    def check_advisers(self, lines: Mapping[str, Line], platforms: Mapping[str, Platform]) -> None:
        """Find the lines whose callers no platform answers."""
        kinds = {LineKind.CAISSE, *(platform.kind for platform in platforms.values())}
        for name, line in lines.items():
            if line.kind not in kinds:
                reason = f"aucune plateforme n'a kind = « {line.kind} » (platforms.toml)"
                self._find("lines.toml", f"lines.{name}.kind", reason)

    def check_reached(self, lines: _LinesFile, steps: dict[str, Step]) -> None:
        """Find the steps that no call can come to."""
        reached: set[str] = set()
        ahead: list[str] = [leaf for _, leaf in _leaves(lines) if isinstance(leaf, StepId)]
        while ahead:
            name = ahead.pop()
            if name not in reached:
                reached.add(name)
                ahead += [leaf for _, leaf in _leaves(steps[name]) if isinstance(leaf, StepId)]
        for name in steps:
            if name not in reached:
                self._find(self._step_files[name], name, "aucun appel n'arrive à cette étape")

    def _step(self, file: str, name: str, table: Any) -> Step | None:
        if not isinstance(table, dict):
            self._find(file, name, f"il faut une table [{name}]")
            return None
        fields = {"handler": "menu", **table} if file == "menus.toml" else dict(table)
        handler = str(fields.pop("handler", ""))
        if handler not in Step.handlers:
            known = ", ".join(sorted(Step.handlers))
            reason = f"il faut l'un de : {known}{_hint(handler, Step.handlers)}"
            self._find(file, f"{name}.handler", reason)
            return None
        step = self._validated(file, name, Step.handlers[handler], fields)
        if isinstance(step, Menu):
            self._check_choices(file, name, step)
        return step

    def _check_choices(self, file: str, name: str, menu: Menu) -> None:
        place = menu.shared_key()
        if place is not None:
            reason = f"la touche {menu.choices[place].key} mène déjà ailleurs"
            self._find(file, f"{name}.choices.{place}.key", reason)
        if menu.is_too_long():
            self._find(file, f"{name}.choices", f"{MOST_CHOICES} au plus à la fois")

    def _validated(self, file: str, key: str, kind: type[Table], data: object) -> Table | None:
        try:
            table = kind.model_validate(data)
        except ValidationError as error:
            for fault in error.errors():
                path = ".".join(str(part) for part in (key, *fault["loc"]) if part != "")
                self._find(file, path, reason_in_french(fault))
            return None
        self._tables.append((file, key, table))
        return table

    def _toml(self, file: str) -> dict[str, Any] | None:
        path = self.folder / file
        try:
            return tomllib.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            self.findings.append(f"{path}: ne peut pas être lu : {error.strerror}")
        except UnicodeDecodeError:
            self.findings.append(f"{path}: doit être enregistré en UTF-8")
        except tomllib.TOMLDecodeError as error:
            self.findings.append(f"{path}: n'est pas du TOML : {error}")
        return None

    def _find(self, file: str, key: str, reason: str) -> None:
        self.findings.append(f"{self.folder / file}: {key}: {reason}")


def _goes_round(name: str, platforms: Mapping[str, Platform]) -> bool:
    """Say whether a platform's calls may come back to it."""
    passed: set[str] = set()
    ahead = platforms[name].overflow
    while ahead is not None and ahead not in passed:
        passed.add(ahead)
        ahead = platforms[ahead].overflow
    return name in passed


def _hint(name: str, names: Collection[str]) -> str:
    close = get_close_matches(name, names, 1)
    return f" ; vouliez-vous « {close[0]} » ?" if close else ""


def _leaves(value: object, path: str = "") -> Iterator[tuple[str, str]]:
    """Give every reference in a table, and "" for a list that is empty, with its key's path."""
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
    if value == ():
        yield path, ""
    for name, part in parts:
        yield from _leaves(part, f"{path}.{name}".lstrip("."))
