"""Settings that admins keep in TOML: read whole, and told what is wrong on one line."""

import tomllib
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from shared.errors import SettingsError
from shared.reasons import reason_in_french

M = TypeVar("M", bound=BaseModel)


def read(path: Path) -> dict[str, Any]:
    """Give the file's table; SettingsError « file: reason »."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"{path}: ne peut pas être lu : {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path}: n'est pas du TOML : {error}") from None


def load(path: Path, model: type[M]) -> M:
    """Give what the file says as `model`; SettingsError « file: key: reason », the first fault."""
    try:
        return model.model_validate(read(path))
    except ValidationError as error:
        raise SettingsError(_findings(path, error)[0]) from None


def check(path: Path, model: type[BaseModel]) -> list[str]:
    """Give every fault of the file, « file: key: reason » each."""
    try:
        model.model_validate(read(path))
    except SettingsError as error:
        return [str(error)]
    except ValidationError as error:
        return _findings(path, error)
    return []


def _findings(path: Path, error: ValidationError) -> list[str]:
    return [
        f"{path}: {'.'.join(str(part) for part in fault['loc'])}: {reason_in_french(fault)}"
        for fault in error.errors()
    ]
