"""Requests of agents as files: answered whole, once, whatever is dropped there (R09)."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import structlog

from shared import task_folder
from shared.errors import SettingsError, StoreDownError
from shared.store import Store
from tests.letters import messages
from tests.store import CAISSE, NUMBER, FakeClock, add_account

REQUEST = {"task": "nims-1", "kind": "password", "caisse": CAISSE, "number": NUMBER}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "nims"
    folder.mkdir()
    return folder


def drop(
    store: Store, folder: Path, content: object = REQUEST, name: str = "nims-1.json", age: float = 2
) -> Path:
    """Leave a file that was last written so many seconds ago."""
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    written = store.clock().timestamp() - age
    os.utime(path, (written, written))
    return path


def scan(store: Store, folder: Path) -> list[tuple[str, str]]:
    return [(outcome.task, outcome.answer) for outcome in task_folder.scan(store, folder)]


def read(path: Path) -> dict[str, str]:
    answer: dict[str, str] = json.loads(path.read_text(encoding="utf-8"))
    return answer


def names(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir()}


def test_a_request_is_answered_and_put_away(store: Store, folder: Path) -> None:
    add_account(store)
    drop(store, folder, REQUEST | {"reason": "perdu"})
    assert scan(store, folder) == [("nims-1", "done")]
    assert names(folder) == {"nims-1.answer.json", "done/nims-1.json"}
    assert read(folder / "nims-1.answer.json") == {"task": "nims-1", "answer": "done"}
    assert scan(store, folder) == []
    assert len(messages(store)) == 1


def test_a_refusal_says_why(store: Store, folder: Path) -> None:
    add_account(store)
    drop(store, folder)
    drop(store, folder, REQUEST | {"task": "nims-2"}, "nims-2.json")
    drop(store, folder, REQUEST | {"task": "nims-3", "number": "7654321"}, "nims-3.json")
    assert scan(store, folder) == [
        ("nims-1", "done"),
        ("nims-2", "refused"),
        ("nims-3", "unknown-account"),
    ]
    assert read(folder / "nims-2.answer.json") == {
        "task": "nims-2",
        "answer": "refused",
        "reason": "too-often",
    }


def test_the_same_again_gets_the_same_and_another_is_refused(store: Store, folder: Path) -> None:
    add_account(store)
    drop(store, folder)
    scan(store, folder)
    (folder / "nims-1.answer.json").unlink()  # killed before it answered
    drop(store, folder)
    assert scan(store, folder) == [("nims-1", "done")]
    drop(store, folder, REQUEST | {"number": "7654321"})
    assert scan(store, folder) == [("nims-1", "refused")]
    assert read(folder / "nims-1.answer.json")["answer"] == "done"
    assert read(folder / "nims-1.refused.json")["reason"] == (
        "task : une autre demande a déjà cet identifiant"
    )
    assert len(messages(store)) == 1


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        pytest.param(b"", "pas du JSON en UTF-8", id="empty"),
        pytest.param(json.dumps(REQUEST).encode()[:-9], "pas du JSON en UTF-8", id="half written"),
        pytest.param(b"\xff\xfe{}", "pas du JSON en UTF-8", id="not UTF-8"),
        pytest.param(b"[" * 9000, "pas du JSON en UTF-8", id="deep"),
        pytest.param(b" " * 16_385, "plus de 16384 octets", id="huge"),
        pytest.param([REQUEST], "? : valeur impossible", id="a list"),
        pytest.param({**REQUEST, "task": "nims-2"}, "task : n'est pas le nom du fichier",
                     id="another task's name"),
        pytest.param({**REQUEST, "number": 123456}, "number : valeur impossible",
                     id="number without"),
        pytest.param({**REQUEST, "number": "123456"}, "number : valeur impossible",
                     id="number too short"),
        pytest.param({**REQUEST, "kind": "code"}, "kind : valeur impossible", id="another kind"),
        pytest.param({**REQUEST, "0612345678": 1}, "? : champ inconnu", id="surplus field"),
        pytest.param({"task": "nims-1", "kind": "password", "caisse": CAISSE}, "number : manquant",
                     id="no number"),
    ],
)  # fmt: skip
def test_what_is_no_request_is_refused_in_one_line(
    store: Store, folder: Path, content: object, reason: str
) -> None:
    add_account(store)
    drop(store, folder, content)
    with structlog.testing.capture_logs() as lines:
        assert scan(store, folder) == [("nims-1", "refused")]
    assert names(folder) == {"nims-1.refused.json", "done/nims-1.json"}
    assert read(folder / "nims-1.refused.json") == {"task": "nims-1", "reason": reason}
    assert "06123" not in str(lines)
    assert messages(store) == []


def _link(folder: Path, outside: Path) -> None:
    (folder / "nims-1.json").symlink_to(outside)


def _pipe(folder: Path, _outside: Path) -> None:
    os.mkfifo(folder / "nims-1.json")


def _dangling(folder: Path, _outside: Path) -> None:
    (folder / "nims-1.json").symlink_to(folder / "nothing")


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (_link, "pas un fichier que l'on puisse lire"),
        (_pipe, "pas un fichier ordinaire"),
        (_dangling, "pas un fichier que l'on puisse lire"),
    ],
)
def test_only_plain_files_are_read(
    store: Store, folder: Path, tmp_path: Path, make: Callable[[Path, Path], None], reason: str
) -> None:
    add_account(store)
    outside = drop(store, tmp_path, name="outside.json")
    make(folder, outside)
    assert scan(store, folder) == [("nims-1", "refused")]
    assert read(folder / "nims-1.refused.json")["reason"] == reason
    assert not os.path.lexists(folder / "nims-1.json")
    assert outside.exists()
    assert messages(store) == []


def test_an_answer_never_goes_through_a_link(store: Store, folder: Path, tmp_path: Path) -> None:
    add_account(store)
    precious = tmp_path / "precious"
    precious.write_text("mine")
    (folder / "nims-1.answer.json").symlink_to(precious)
    drop(store, folder)
    scan(store, folder)
    assert precious.read_text() == "mine"
    assert read(folder / "nims-1.answer.json")["answer"] == "done"


@pytest.mark.parametrize(
    "name",
    ["nims 1.json", "nims\n1.json", ".json", "nims-1.json.part", "n" * 65 + ".json", "é.json",
     "nims-1.answer.json", "..json"],
)  # fmt: skip
def test_other_names_are_left_alone(store: Store, folder: Path, name: str) -> None:
    path = drop(store, folder, name=name)
    assert scan(store, folder) == []
    assert path.exists()


def test_a_folder_is_left_alone(store: Store, folder: Path) -> None:
    (folder / "nims-1.json").mkdir()
    assert scan(store, folder) == []


def test_a_file_being_written_is_left_until_it_settles(
    store: Store, clock: FakeClock, folder: Path
) -> None:
    add_account(store)
    drop(store, folder, b'{"task":', age=1.9)
    assert scan(store, folder) == []
    drop(store, folder, age=0)
    assert scan(store, folder) == []
    drop(store, folder, age=-60)  # of a machine whose clock is ahead
    assert scan(store, folder) == [("nims-1", "done")]


def test_when_the_store_is_away_the_request_stays(
    store: Store, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_account(store)
    drop(store, folder)

    def away(*_: object) -> None:
        raise StoreDownError("database")

    with monkeypatch.context() as patched:
        patched.setattr("shared.agent_tasks.do", away)
        with pytest.raises(StoreDownError):
            scan(store, folder)
    assert names(folder) == {"nims-1.json"}
    assert scan(store, folder) == [("nims-1", "done")]


def test_done_must_be_a_folder(store: Store, folder: Path, tmp_path: Path) -> None:
    (folder / "done").symlink_to(tmp_path)
    with pytest.raises(SettingsError, match="n'est pas un dossier"):
        scan(store, folder)


def test_a_folder_that_is_not_there_is_named(store: Store, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="No such file"):
        scan(store, tmp_path / "none")
