"""A file is written whole or not at all; a secret one is read only if its owner alone may."""

import errno
import os
import stat
from pathlib import Path

import pytest

from shared.errors import SettingsError
from shared.files import read_private, write_first, write_whole


def test_it_replaces_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("a longer text than the new one")
    write_whole(path, "été")
    assert path.read_bytes() == "été".encode()
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize("mode", [0o600, 0o644], ids=oct)
def test_its_rights_are_those_asked_for(tmp_path: Path, mode: int) -> None:
    write_whole(tmp_path / "file", "text", mode=mode)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == mode


@pytest.mark.parametrize(("user", "kept"), [(0, True), (10001, False)], ids=["root", "another"])
def test_what_root_replaces_stays_its_owner_s(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, user: int, *, kept: bool
) -> None:
    """Else a key renewed by root could not be read by the service."""
    given: list[tuple[int, int]] = []
    path = tmp_path / "file"
    path.write_text("old")
    owner = (path.stat().st_uid, path.stat().st_gid)
    monkeypatch.setattr(os, "geteuid", lambda: user)
    monkeypatch.setattr(os, "fchown", lambda _, uid, gid: given.append((uid, gid)))
    write_whole(path, "new")
    assert given == ([owner] if kept else [])


def test_the_first_of_several_stays(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_first(path, "first", mode=0o600)
    write_first(path, "second", mode=0o600)
    assert (path.read_text(), stat.S_IMODE(path.stat().st_mode)) == ("first", 0o600)
    assert os.listdir(tmp_path) == ["file"]


def test_what_root_makes_first_is_the_folder_s_owner_s(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a key made by root could not be read by the service."""
    given: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(os, "fchown", lambda _, uid, gid: given.append((uid, gid)))
    write_first(tmp_path / "file", "text", mode=0o600)
    assert given == [(tmp_path.stat().st_uid, tmp_path.stat().st_gid)]


@pytest.mark.parametrize("step", ["fchmod", "fsync", "link"])
def test_a_failure_leaves_nothing_of_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, "no space left")

    monkeypatch.setattr(os, step, fail)
    with pytest.raises(OSError, match="no space left"):
        write_first(tmp_path / "file", "text", mode=0o600)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("step", ["fchmod", "fsync", "replace"])
def test_a_failure_leaves_the_old_file_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, "no space left")

    path = tmp_path / "file"
    path.write_text("old")
    monkeypatch.setattr(os, step, fail)
    with pytest.raises(OSError, match="no space left"):
        write_whole(path, "new")
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["file"]


def test_the_disk_keeps_the_new_name_before_it_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else rows could outlive, in a power cut, the key that they are sealed under."""
    path = tmp_path / "file"
    path.write_text("old")
    synced: list[tuple[bool, str]] = []

    def sync(handle: int) -> None:
        synced.append((stat.S_ISDIR(os.fstat(handle).st_mode), path.read_text()))

    monkeypatch.setattr(os, "fsync", sync)
    write_whole(path, "new")
    assert synced == [(False, "old"), (True, "new")]


def test_what_cannot_be_encoded_leaves_the_old_file_alone(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(UnicodeEncodeError):
        write_whole(path, "\ud800")
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize("mode", [0o600, 0o400, 0o700], ids=oct)
def test_what_its_owner_alone_may_read_is_read(tmp_path: Path, mode: int) -> None:
    write_whole(tmp_path / "file", "secrèt", mode=mode)
    assert read_private(tmp_path / "file") == "secrèt"


@pytest.mark.parametrize("mode", [0o640, 0o620, 0o610, 0o604, 0o602, 0o601], ids=oct)
def test_what_others_may_read_or_change_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "file"
    write_whole(path, "secret", mode=mode)
    with pytest.raises(SettingsError) as refused:
        read_private(path)
    assert str(refused.value) == f"{path}: d'autres peuvent le lire ; lancez : chmod 600 {path}"


def test_what_can_not_be_written_is_named(tmp_path: Path) -> None:
    path = tmp_path / "absent" / "file"
    with pytest.raises(FileNotFoundError) as refused:
        write_whole(path, "text")
    assert refused.value.filename == str(path)
    assert refused.value.strerror == "ne peut pas être écrit : No such file or directory"


def test_what_can_not_be_read_is_named(tmp_path: Path) -> None:
    for path, reason in ((tmp_path / "absent", "No such file"), (tmp_path, "Is a directory")):
        with pytest.raises(SettingsError, match=f"{path}: ne peut pas être lu : {reason}"):
            read_private(path)
