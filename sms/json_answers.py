"""What strangers answer in JSON: read without believing any of it, and found by JSON pointers."""

import json
import re
from typing import NoReturn

POINTER = r"^(/([^~/]|~[01])*)+$"
"""A JSON pointer (RFC 6901) to a part of a document; the whole of one is never asked for."""

_INDEX = re.compile(r"0|[1-9][0-9]{0,5}")


def parse(body: bytes) -> object:
    """Read a document; None if it is no JSON, or `null`."""
    try:
        return json.loads(body.decode(), parse_constant=_refuse)
    except (ValueError, RecursionError):
        return None


def at(document: object, pointer: str) -> object:
    """Give what a pointer leads to; None if there is nothing."""
    for escaped in pointer.split("/")[1:]:
        token = escaped.replace("~1", "/").replace("~0", "~")
        match document:
            case dict():
                document = document.get(token)
            case list() if _INDEX.fullmatch(token) and int(token) < len(document):
                document = document[int(token)]
            case _:
                return None
    return document


def text_at(document: object, pointer: str) -> str | None:
    """Give a text, a whole number or a truth value as text; None if there is none of these."""
    match at(document, pointer):
        case str(text):
            return text
        case bool(truth):
            return str(truth).lower()
        case int(number):
            return str(number)
    return None


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON")
