"""JSON schemas of the script's files, for editors: `python -m ivr.script_schemas` writes them.

A file's first line names its schema, as Taplo and « Even Better TOML » read it. They know kinds of
values and names of keys; what leads nowhere `svi check` alone finds.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ivr.handlers.menu import Menu
from ivr.prompts import FILES, LONGEST_TEXT
from ivr.script_files import DEFAULT_FOLDER, TABLES
from ivr.step import ScriptTable, Step

FOLDER = "schemas"
DRAFT = "http://json-schema.org/draft-07/schema#"

Schema = dict[str, Any]


def schemas() -> Iterator[tuple[str, Schema]]:
    """Give the schema of each file, and the name of the file that has it."""
    for name, table in TABLES.items():
        yield name, _of(table)
    for file in FILES:
        yield Path(file).stem, _PROMPTS
    steps = [_step(name) for name in sorted(Step.handlers)]
    yield "steps", _named(*steps)
    yield "menus", _named(_of(Menu))


def text(schema: Schema) -> str:
    """Give what the file of a schema says."""
    return json.dumps({"$schema": DRAFT, **schema}, ensure_ascii=False, indent=1) + "\n"


def _of(table: type[ScriptTable]) -> Schema:
    schema: Schema = _plain(table.model_json_schema())
    return schema


def _step(handler: str) -> Schema:
    schema = _of(Step.handlers[handler])
    schema["properties"] = {"handler": {"const": handler}, **schema.get("properties", {})}
    schema["required"] = ["handler", *schema.get("required", [])]
    return schema


def _named(*schemas: Schema) -> Schema:
    """Give the schema of a file that has one of these tables under each name."""
    definitions: Schema = {}
    for schema in schemas:
        definitions |= schema.pop("$defs", {})
    table = schemas[0] if len(schemas) == 1 else {"oneOf": list(schemas)}
    return {"$defs": definitions, "type": "object", "additionalProperties": table}


def _plain(value: Any) -> Any:
    """Leave out null, which TOML does not have, and what our classes say to programmers."""
    if isinstance(value, list):
        return [_plain(one) for one in value if one != {"type": "null"}]
    if not isinstance(value, dict):
        return value
    plain = {
        key: _plain(one)
        for key, one in value.items()
        if isinstance(one, dict) or key not in ("title", "description", "default")
    }
    if "patternProperties" in plain:
        plain["additionalProperties"] = False
    alternatives = plain.get("anyOf", ())
    return alternatives[0] if len(alternatives) == 1 else plain


_PROMPTS: Schema = {
    "type": "object",
    "additionalProperties": False,
    "required": ["prompts"],
    "properties": {
        "prompts": {
            "type": "object",
            "additionalProperties": {"type": "string", "minLength": 1, "maxLength": LONGEST_TEXT},
        }
    },
}

if __name__ == "__main__":
    for name, schema in schemas():
        (DEFAULT_FOLDER / FOLDER / f"{name}.json").write_text(text(schema), encoding="utf-8")
