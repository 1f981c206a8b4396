"""The JSON contract: a round trip, errors that say what to do, and a schema that holds."""

from __future__ import annotations

import json
from dataclasses import fields, is_dataclass, replace
from typing import Any

import pytest
from hypothesis import given

from mftriage import codec, model
from mftriage.errors import UsageError
from mftriage.model import SCHEMA_VERSION, Triage
from tests.render.full import FULL
from tests.render.samples import INCONCLUSIVE, SAMPLES, X86_SYSCTL_PANIC
from tests.render.strategies import HOSTILE, QUICK, saturate, triages

_SCHEMA = codec.schema()
_TYPES = [
    value for value in vars(model).values() if isinstance(value, type) and is_dataclass(value)
]


def strings(value: object) -> str:
    """Return all strings of a triage, joined."""
    if isinstance(value, str):
        return value
    if isinstance(value, tuple):
        return "".join(map(strings, value))
    if is_dataclass(value):
        return "".join(strings(getattr(value, field.name)) for field in fields(value))
    return ""


@QUICK
@given(triages())
def test_round_trip(triage: Triage) -> None:
    text = codec.to_json(triage)
    text.encode()
    again = codec.from_json(text)
    assert codec.to_json(again) == text
    # A lone surrogate has become its escape; everything else is as it was.
    if not any("\ud800" <= char <= "\udfff" for char in strings(triage)):
        assert again == triage


@pytest.mark.parametrize("name", SAMPLES)
def test_samples_round_trip(name: str) -> None:
    assert codec.from_json(codec.to_json(SAMPLES[name])) == SAMPLES[name]


@pytest.mark.parametrize("hostile", HOSTILE, ids=ascii)
def test_hostile_strings_are_safe_to_print(hostile: str) -> None:
    text = codec.to_json(saturate(FULL, hostile))
    for char in "\x1b\x7f\x9b\r\u2028\u202e\u2066":
        assert char not in text


def test_lone_surrogates_become_text() -> None:
    dump = replace(INCONCLUSIVE.dump, path="/tmp/\udcff\ud800")
    read = json.loads(codec.to_json(replace(INCONCLUSIVE, dump=dump)).encode())
    assert read["dump"]["path"] == "/tmp/\\xff\\ud800"


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
def test_a_number_that_is_none_is_null(number: float) -> None:
    dump = replace(INCONCLUSIVE.dump, uptime_seconds=number)
    assert codec.to_dict(replace(INCONCLUSIVE, dump=dump))["dump"]["uptime_seconds"] is None


def test_json_is_indented_and_keeps_the_order_of_the_contract() -> None:
    text = codec.to_json(X86_SYSCTL_PANIC)
    assert text.startswith('{\n  "schema_version": 1,\n  "tool": {\n    "name": "mftriage",')
    assert text.endswith("}\n")
    assert list(json.loads(text)) == [field.name for field in fields(Triage)]


def test_unknown_keys_are_ignored() -> None:
    document = codec.to_dict(X86_SYSCTL_PANIC)
    document["new"] = document["page"]["new"] = document["verdict"]["evidence"][0]["new"] = [1]
    assert codec.from_json(json.dumps(document)) == X86_SYSCTL_PANIC


def test_missing_optional_keys_are_null() -> None:
    document = {key: codec.to_dict(INCONCLUSIVE)[key] for key in ("tool", "dump", "verdict")}
    read = codec.from_json(json.dumps({"schema_version": 1, **document}))
    assert read == replace(INCONCLUSIVE, not_checked=())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "This is not JSON."),
        ("[" * 100_000, "This is not JSON."),
        ("[]", "This JSON is not a triage: it has no schema_version."),
        ("{}", "This JSON is not a triage: it has no schema_version."),
        ('{"schema_version": true}', "This JSON is not a triage: it has no schema_version."),
        (
            '{"schema_version": 2}',
            "This triage has schema_version 2, and this mftriage reads 1 at most.",
        ),
        (
            '{"schema_version": 1}',
            "This is not a triage of schema_version 1: tool: Field required.",
        ),
    ],
)
def test_what_is_no_triage_is_one_sentence_and_a_remedy(text: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        codec.from_json(text)
    assert caught.value.message == message
    assert "mftriage analyze DUMP -f json" in caught.value.remedy


@pytest.mark.parametrize(
    ("key", "value"), [("hostname", 3), ("size_bytes", "3"), ("symbols", "guessed")]
)
def test_wrong_types_are_named_not_converted(key: str, value: object) -> None:
    document = codec.to_dict(X86_SYSCTL_PANIC)
    document["dump"][key] = value
    with pytest.raises(UsageError, match=f"dump.{key}"):
        codec.from_json(json.dumps(document))


def test_schema_names_every_key_and_describes_every_type() -> None:
    schema = _SCHEMA
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert schema["title"] == "mftriage triage"
    assert schema["required"] == ["schema_version", "tool", "dump", "verdict"]
    assert schema["properties"]["schema_version"]["const"] == SCHEMA_VERSION
    assert json.loads(json.dumps(schema)) == schema
    for kind in _TYPES:
        part = schema if kind is Triage else schema["$defs"][kind.__name__]
        assert list(part["properties"]) == [field.name for field in fields(kind)]
        assert part["description"].split() == (kind.__doc__ or "").split()


def conforms(value: Any, part: dict[str, Any], schema: dict[str, Any]) -> bool:
    """Check ``value`` against the part of JSON schema that ours uses; other keywords fail."""
    known = {"$ref", "anyOf", "const", "enum", "type", "properties", "required", "items"}
    assert set(part) <= known | {"default", "description", "title", "$schema", "$defs"}
    if "$ref" in part:
        return conforms(value, schema["$defs"][part["$ref"].removeprefix("#/$defs/")], schema)
    if "anyOf" in part:
        return any(conforms(value, option, schema) for option in part["anyOf"])
    if value not in part.get("enum", [value]) or value != part.get("const", value):
        return False
    python: Any = {
        "object": dict, "array": list, "string": str, "boolean": bool, "integer": int,
        "number": (int, float), "null": type(None),
    }[part["type"]]  # fmt: skip
    if not isinstance(value, python) or (isinstance(value, bool) and python is not bool):
        return False
    if isinstance(value, dict):
        return set(part.get("required", ())) <= set(value) and all(
            conforms(value[key], below, schema)
            for key, below in part["properties"].items()
            if key in value
        )
    if isinstance(value, list):
        return all(conforms(item, part["items"], schema) for item in value)
    return True


@QUICK
@given(triages())
def test_every_triage_conforms_to_the_schema(triage: Triage) -> None:
    assert conforms(json.loads(codec.to_json(triage)), _SCHEMA, _SCHEMA)


def test_the_schema_refuses_what_is_wrong() -> None:
    document = codec.to_dict(X86_SYSCTL_PANIC)
    assert conforms(document, _SCHEMA, _SCHEMA)
    document["verdict"]["kind"] = "gremlins"
    assert not conforms(document, _SCHEMA, _SCHEMA)
