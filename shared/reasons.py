"""Why a settings file or a variable is refused, said of pydantic's findings; admins read French."""

import re
from typing import Any

from pydantic_core import ErrorDetails

REASONS = {  # by pydantic's error type
    "missing": "clé manquante",
    "extra_forbidden": "clé inconnue",
    "string_type": "il faut un texte entre guillemets",
    "float_type": "il faut un nombre",
    "float_parsing": "il faut un nombre",
    "int_type": "il faut un nombre entier",
    "int_parsing": "il faut un nombre entier",
    "int_from_float": "il faut un nombre entier",
    "greater_than": "il faut plus de {gt:g}",
    "greater_than_equal": "il faut {ge:g} au moins",
    "less_than_equal": "il faut {le:g} au plus",
    "tuple_type": "il faut une liste [ … ]",
    "list_type": "il faut une liste [ … ]",
    "bool_type": "il faut true ou false",
    "bool_parsing": "il faut true ou false",
    "date_type": "il faut une date sans guillemets, comme 2026-12-24",
    "datetime_type": "il faut une date et une heure sans guillemets, comme 2026-12-24T08:00:00",
    "enum": "il faut l'un de : {expected}",
    "literal_error": "il faut l'un de : {expected}",
    "model_type": "il faut une table",
    "dict_type": "il faut une table",
    "too_long": "{max_length} au plus",
    "too_short": "il en faut {min_length} au moins",
    "string_pattern_mismatch": "valeur impossible ; il faut {pattern}",
}


def reason_in_french(fault: ErrorDetails) -> str:
    """Say what is wrong with a value, without quoting it."""
    reason = REASONS.get(fault["type"])
    if reason is None:
        return fault["msg"]
    said = {name: _in_french(value) for name, value in fault.get("ctx", {}).items()}
    return reason.format_map(said)


def _in_french(value: Any) -> Any:
    """Turn the « or » of a list of values that pydantic quotes."""
    return re.sub(r"(?<=['\"]) or (?=['\"])", " ou ", value) if isinstance(value, str) else value
