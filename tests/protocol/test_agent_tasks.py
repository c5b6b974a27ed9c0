"""One request of an agent at the same instant, and `svi tasks` as agents' systems use it (R09)."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from shared import agent_tasks
from shared.agent_tasks import Answer, Kind, OtherTaskError, Task
from shared.store import Store
from svi.__main__ import cli
from svi.service import open_store, prepare_home
from svi.settings import Settings
from tests.letters import messages
from tests.processes import Place, run_together
from tests.store import CAISSE, NUMBER, add_account

TOGETHER = 4


@pytest.fixture
def shop(place: Place) -> Iterator[Store]:
    """The store of this process, with dossiers."""
    with closing(place.open()) as store:
        for rank in range(TOGETHER):
            add_account(store, f"000000{rank}", mobile=f"+3361111111{rank}")
        yield store


def _task(number: str = "0000000", name: str = "nims-1") -> Task:
    return Task(name, Kind.PASSWORD, CAISSE, number, None)


def test_the_same_request_at_once_is_done_once(place: Place, shop: Store) -> None:
    def ask(store: Store, _rank: int) -> str:
        return agent_tasks.do(store, _task(), "nims")

    assert run_together(place, TOGETHER, ask) == [Answer.DONE] * TOGETHER
    assert len(messages(shop)) == 1


def test_requests_with_one_id_for_several_dossiers_at_once(
    place: Place, shop: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each takes its time between looking for an earlier one and its answer."""
    judge = agent_tasks._Request._judge

    def judge_slowly(*arguments: Any) -> Answer:
        time.sleep(0.2)
        return judge(*arguments)

    monkeypatch.setattr(agent_tasks._Request, "_judge", judge_slowly)

    def ask(store: Store, rank: int) -> str:
        try:
            return agent_tasks.do(store, _task(f"000000{rank}"), "nims")
        except OtherTaskError:
            return "other"

    answers = run_together(place, TOGETHER, ask)
    assert sorted(answers) == ["done", *["other"] * (TOGETHER - 1)]
    assert len(messages(shop)) == 1


def test_requests_for_one_dossier_at_once_stay_within_its_limit(place: Place, shop: Store) -> None:
    def ask(store: Store, rank: int) -> str:
        return agent_tasks.do(store, _task(name=f"nims-{rank}"), "nims")

    answers = run_together(place, TOGETHER, ask)
    assert sorted(answers) == ["done", *["too-often"] * (TOGETHER - 1)]
    assert len(messages(shop)) == 1


# The command


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the agents' system, beside a store with a dossier."""
    monkeypatch.setenv("SVI_HOME", str(tmp_path / "home"))
    prepare_home(Settings())
    with open_store(Settings()) as store:
        add_account(store)
    folder = tmp_path / "nims"
    folder.mkdir()
    return folder


def _drop(folder: Path, name: str) -> None:
    """Write a request elsewhere and rename it in, as one should."""
    request = {"task": name, "kind": "password", "caisse": CAISSE, "number": NUMBER}
    part = folder / f"{name}.part"
    part.write_text(json.dumps(request))
    os.utime(part, (0, 0))
    part.rename(folder / f"{name}.json")


def test_run_takes_what_is_there(folder: Path) -> None:
    _drop(folder, "nims-1")
    _drop(folder, "nims-2")
    done = CliRunner().invoke(cli, ["tasks", "run", str(folder)])
    assert done.exit_code == 0, done.output
    assert done.output == "nims-1  done\nnims-2  refused\n"
    assert CliRunner().invoke(cli, ["tasks", "run", str(folder)]).output == "rien\n"


def test_watch_takes_what_comes_until_a_signal(folder: Path) -> None:
    command = [sys.executable, "-m", "svi", "tasks", "watch", str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
            _drop(folder, "nims-1")
            answer = folder / "nims-1.answer.json"
            deadline = time.monotonic() + 30
            while not (folder / "done/nims-1.json").exists() and time.monotonic() < deadline:
                time.sleep(0.1)
            assert json.loads(answer.read_text()) == {"task": "nims-1", "answer": "done"}
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) == 0
        finally:
            process.kill()
    log = (folder.parent / "home/logs/tasks.log").read_text()
    assert NUMBER not in log
    assert "nims-1" in log
