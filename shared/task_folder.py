"""A folder where the agents' system drops its requests, one JSON file each (R09).

`<task>.json` is answered in `<task>.answer.json`, or `<task>.refused.json` if it is no request, and
goes to `done/`. Answers appear whole. A file is taken once it has not changed for two seconds:
whoever writes should rename it in. Killed at any point, the next scan does what is left: a task
done before gets the answer it got.
"""

import json
import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import structlog

from shared import agent_tasks
from shared.agent_tasks import OtherTaskError
from shared.api.bodies import parse
from shared.api.problems import ProblemError
from shared.api.tasks import TASK_ID, TaskRequest, TaskView
from shared.errors import SettingsError
from shared.files import write_whole
from shared.store import Store

NAME = re.compile(rf"({TASK_ID})\.json")
DONE = "done"
CLIENT = "folder"
LARGEST = 16_384  # bytes
SETTLED_SECONDS = 2
REASONS = {"missing": "manquant", "extra_forbidden": "champ inconnu"}  # all else is a wrong value

log = structlog.get_logger(__name__)


class _RefusedError(Exception):
    """The file can't be a request: why, in French, quoting nothing of it."""


@dataclass(frozen=True)
class Outcome:
    """A file that was taken: its task, and what came of it in a word."""

    task: str
    answer: str


def scan(store: Store, folder: Path) -> Iterator[Outcome]:
    """Take every request that is there. SettingsError if the folder is of no use, OSError."""
    done = folder / DONE
    try:
        done.mkdir(mode=0o700, exist_ok=True)
        if not stat.S_ISDIR(done.lstat().st_mode):
            raise SettingsError(f"{done}: n'est pas un dossier")
        names = sorted(os.listdir(folder))
    except OSError as error:
        raise SettingsError(f"{folder}: ne peut pas être lu : {error.strerror}") from None
    for name in names:
        found = NAME.fullmatch(name)
        if found is not None and _settled(store, folder / name):
            yield _take(store, folder, found[1])


def _settled(store: Store, path: Path) -> bool:
    """Say whether a file can be taken: not a folder, nor one that may still be written.

    A time to come, of another machine's clock, holds nothing up.
    """
    try:
        status = path.lstat()
    except FileNotFoundError:  # its writer took it back
        return False
    age = abs(store.clock().timestamp() - status.st_mtime)
    return age >= SETTLED_SECONDS and not stat.S_ISDIR(status.st_mode)


def _take(store: Store, folder: Path, task: str) -> Outcome:
    try:
        view = _answer(store, folder / f"{task}.json", task)
    except _RefusedError as error:
        _write(folder / f"{task}.refused.json", {"task": task, "reason": str(error)})
        outcome = Outcome(task, "refused")
    else:
        _write(folder / f"{task}.answer.json", view.model_dump(exclude_none=True))
        outcome = Outcome(task, view.answer)
    os.replace(folder / f"{task}.json", folder / DONE / f"{task}.json")
    log.info("agent_task", task=task, answer=outcome.answer)
    return outcome


def _answer(store: Store, path: Path, task: str) -> TaskView:
    try:
        request = parse(TaskRequest, _read(path))
    except ProblemError as error:
        faults = ", ".join(
            f"{fault.field or '?'} : {REASONS.get(fault.reason, 'valeur impossible')}"
            for fault in error.faults
        )
        raise _RefusedError(faults or "pas du JSON en UTF-8") from None
    if request.task != task:
        raise _RefusedError("task : n'est pas le nom du fichier")
    try:
        return TaskView.of(task, agent_tasks.do(store, request.as_task(), CLIENT))
    except OtherTaskError:
        raise _RefusedError("task : une autre demande a déjà cet identifiant") from None


def _read(path: Path) -> bytes:
    """Read a plain file that is not too large; a link is not followed, a pipe not waited for."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        raise _RefusedError("pas un fichier que l'on puisse lire") from None
    with os.fdopen(handle, "rb", buffering=0) as file:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise _RefusedError("pas un fichier ordinaire")
        content = file.read(LARGEST + 1)
    if len(content) > LARGEST:
        raise _RefusedError(f"plus de {LARGEST} octets")
    return content


def _write(path: Path, answer: dict[str, str]) -> None:
    write_whole(path, json.dumps(answer, ensure_ascii=False) + "\n")
