"""Files are written whole or not at all, and what is secret is read only where it is kept so."""

import fcntl
import glob
import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from shared.errors import SettingsError


def write_whole(path: Path, text: str, *, mode: int = 0o644) -> None:
    """Put `text` in `path`: after a crash there is the old file or the new one, never a part.

    A file that root replaces stays its owner's. OSError names `path`.
    """
    try:
        _write_whole(path, text, mode)
        sync_folder(path.parent)  # rows are sealed under a key at once: its file must stay
    except OSError as error:
        why = f"ne peut pas être écrit : {error.strerror}"
        raise OSError(error.errno, why, str(path)) from None


def _write_whole(path: Path, text: str, mode: int) -> None:
    with _part(path, text, mode, path) as part:
        os.replace(part, path)


def write_first(path: Path, text: str, *, mode: int) -> None:
    """Put `text` in `path`, unless there is a file: of several processes at once one succeeds.

    Nobody ever sees a part of it. What root makes is the folder's owner's.
    """
    with _part(path, text, mode, path.parent) as part:
        with suppress(FileExistsError):
            os.link(part, path)
        os.unlink(part)
    sync_folder(path.parent)


@contextmanager
def _part(path: Path, text: str, mode: int, like: Path) -> Iterator[str]:
    """Write a file that can become `path`, and delete it if it did not; root's is as `like` is."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            os.fchmod(file.fileno(), mode)
            if os.geteuid() == 0 and like.exists():
                before = like.stat()
                os.fchown(file.fileno(), before.st_uid, before.st_gid)
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        yield name
    except BaseException:
        os.unlink(name)
        raise


def sync_folder(folder: Path) -> None:
    """Have the disk keep the names in a folder."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def remove_parts(path: Path) -> None:
    """Delete what a `write_whole` that was killed left; nobody else may be writing that file."""
    for part in path.parent.glob(f".{glob.escape(path.name)}.*"):
        part.unlink(missing_ok=True)


@contextmanager
def alone(folder: Path, busy: Exception) -> Iterator[None]:
    """Be the only process that works in a folder; raises `busy` if there is one already.

    The kernel lets go of the lock when a process dies.
    """
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise busy from None
        yield
    finally:
        os.close(handle)


def read_private(path: Path) -> str:
    """Read a file that its owner alone may read; SettingsError if others may, or nobody can."""
    try:
        with path.open(encoding="utf-8") as file:
            if stat.S_IMODE(os.fstat(file.fileno()).st_mode) & 0o077:
                raise SettingsError(f"{path}: d'autres peuvent le lire ; lancez : chmod 600 {path}")
            return file.read()
    except OSError as error:
        raise SettingsError(f"{path}: ne peut pas être lu : {error.strerror}") from None
