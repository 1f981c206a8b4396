"""A Triage as JSON, back again, and the JSON schema of it.

Writing needs the standard library alone, because every ``analyze -f json`` pays for what is
imported here.  Reading and the schema use pydantic, which is imported when they are called.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import fields, is_dataclass
from typing import Any, cast

from mftriage.errors import UsageError
from mftriage.model import SCHEMA_VERSION, Triage

__all__ = ["dumps", "from_json", "schema", "to_dict", "to_json"]

_ANEW = "make one with `mftriage analyze DUMP -f json`"

_SURROGATE = re.compile("[\ud800-\udfff]")
# What json.dumps leaves as it is but a terminal obeys: C1 controls and the bidi marks.
_UNSAFE = re.compile("[\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")


def to_dict(triage: Triage) -> dict[str, Any]:
    """Return the triage as plain dicts, lists, strings and numbers, ready for ``json.dumps``.

    Two things that JSON in UTF-8 can't hold are replaced.  A lone surrogate becomes its escape as
    text: most readers of JSON refuse one even when it is written ``\\udc80``, and a file name
    that isn't UTF-8 has them.  A float that is not finite becomes null.
    """
    return cast("dict[str, Any]", _plain(triage))


def to_json(triage: Triage) -> str:
    """Return the triage as indented JSON that ends in a newline and is always valid UTF-8.

    Control characters are escaped, so that it may be printed on a terminal.
    """
    return dumps(triage, indent=2) + "\n"


def dumps(value: object, indent: int | None = None) -> str:
    """Return dataclasses, dicts, tuples and plain values as JSON, as safe as ``to_json``'s."""
    text = json.dumps(_plain(value), indent=indent, ensure_ascii=False, allow_nan=False)
    return _UNSAFE.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def from_json(text: str) -> Triage:
    """Read what ``to_json`` wrote.

    Keys that this version does not know are ignored: an addition keeps ``schema_version``.

    Raises:
        UsageError: the text is not a triage, or one of a schema_version that can't be read.
    """
    _check_version(text)
    # Not at the top: analyze never reads a triage, and pydantic is the larger part of its start.
    from pydantic import TypeAdapter, ValidationError

    try:
        return TypeAdapter(Triage).validate_json(text, strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        where = ".".join(str(step) for step in first["loc"]) or "the whole document"
        raise UsageError(
            f"This is not a triage of schema_version {SCHEMA_VERSION}: {where}: {first['msg']}.",
            f"If a newer mftriage wrote it, upgrade this one; otherwise {_ANEW}.",
        ) from None


def schema() -> dict[str, Any]:
    """Return the JSON schema (draft 2020-12) of ``to_json``; descriptions are the docstrings."""
    from pydantic import TypeAdapter
    from pydantic.json_schema import GenerateJsonSchema

    class Untitled(GenerateJsonSchema):
        """Leave out the titles of fields: they only repeat the key."""

        def field_title_should_be_set(self, schema: Any) -> bool:
            return False

    made = TypeAdapter(Triage).json_schema(schema_generator=Untitled)
    properties = made["properties"]
    # from_json refuses a document without it, whatever the dataclass's default says.
    properties["schema_version"] = {"const": SCHEMA_VERSION, "type": "integer"}
    return {
        "$schema": GenerateJsonSchema.schema_dialect,
        "title": "mftriage triage",
        "description": made["description"],
        "type": made["type"],
        "properties": properties,
        "required": ["schema_version", *made["required"]],
        "$defs": made["$defs"],
    }


def _plain(value: object) -> object:
    if isinstance(value, str):
        return _SURROGATE.sub(_escape, value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {_plain(key): _plain(item) for key, item in value.items()}
    if is_dataclass(value):
        return {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
    return value


def _escape(match: re.Match[str]) -> str:
    code = ord(match[0])
    # os.fsdecode() puts the byte 0xNN of a name that is not UTF-8 at U+DCNN.
    return f"\\x{code - 0xDC00:02x}" if 0xDC80 <= code <= 0xDCFF else f"\\u{code:04x}"


def _integer(digits: str) -> int:
    value = int(digits)
    if abs(value) >> 64:  # beyond any address or size; renderers reckon in floats
        raise UsageError(
            f"This is not a triage: it has a number of {len(digits)} digits.",
            f"Give it a triage: {_ANEW}.",
        )
    return value


def _check_version(text: str) -> None:
    try:
        document = json.loads(text, parse_int=_integer)
    except (ValueError, RecursionError):
        raise UsageError("This is not JSON.", f"Give it a triage: {_ANEW}.") from None
    version = document.get("schema_version") if isinstance(document, dict) else None
    if type(version) is not int or version < 1:
        raise UsageError(
            "This JSON is not a triage: it has no schema_version.", f"Give it a triage: {_ANEW}."
        )
    if version > SCHEMA_VERSION:
        raise UsageError(
            f"This triage has schema_version {version}, and this mftriage reads "
            f"{SCHEMA_VERSION} at most.",
            f"Upgrade mftriage, or {_ANEW} of this version.",
        )
