"""Who we are to a provider: a private file with a JSON object of texts."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path

from shared.errors import SettingsError
from shared.files import read_private


def read_account(
    path: Path, fields: Mapping[str, Callable[[str], bool]], remedy: str
) -> tuple[str, ...]:
    """Read the texts of an account, each with what must hold of it, in the order of `fields`.

    SettingsError, with the remedy, if the file is missing, damaged or readable by others.
    """
    try:
        data = json.loads(read_private(path))
        texts = tuple(data[name] for name in fields)
        if not all(holds(text) for text, holds in zip(texts, fields.values(), strict=True)):
            raise ValueError
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise SettingsError(f"{path}: {remedy}") from None
    return texts
