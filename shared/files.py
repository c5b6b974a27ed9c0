"""Files are written whole or not at all, and what is secret is read only where it is kept so."""

import os
import stat
import tempfile
from pathlib import Path

from shared.errors import SettingsError


def write_whole(path: Path, text: str, *, mode: int = 0o644) -> None:
    """Put `text` in `path`: after a crash there is the old file or the new one, never a part."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            os.fchmod(file.fileno(), mode)
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise


def read_private(path: Path) -> str:
    """Read a file that its owner alone may read; SettingsError if others may, or nobody can."""
    try:
        with path.open(encoding="utf-8") as file:
            if stat.S_IMODE(os.fstat(file.fileno()).st_mode) & 0o077:
                raise SettingsError(f"{path}: others may read it; run: chmod 600 {path}")
            return file.read()
    except OSError as error:
        raise SettingsError(f"{path}: cannot be read: {error.strerror}") from None
