"""OpenAI's response_format into a grammar: text, json_object, json_schema; strict schemas by OpenAI's rules.

Strict: the root is an object, every object says "additionalProperties": false and lists all its properties as required
(what is optional may be null). Source: OpenAI's guide to structured outputs.
"""

import re
from collections.abc import Mapping
from typing import Any

from ownlm.engine.grammar import Grammar
from ownlm.errors import OwnlmError
from ownlm.server.errors import bad

_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
# A schema within a schema stands below one of these.
_BY_NAME = ("properties", "$defs", "definitions")
_LISTED = ("anyOf", "allOf", "oneOf", "prefixItems")
_ONE = ("items", "not", "if", "then", "else", "contains")
_DEEPEST = 100


def grammar_of(given: Mapping[str, Any] | None, where: str = "response_format") -> Grammar | None:
    """`given` as in chat completions: {"type": "json_schema", "json_schema": {"name", "schema", "strict"}}."""
    if given is None:
        return None
    kind = given.get("type")
    if kind == "text":
        _only(given, ("type",), where)
        return None
    if kind == "json_object":
        _only(given, ("type",), where)
        return Grammar(kind="json_object")
    if kind != "json_schema":
        raise bad(f"{where}.type must be text, json_object or json_schema", f"{where}.type")
    _only(given, ("type", "json_schema"), where)
    described = given.get("json_schema")
    if not isinstance(described, Mapping):
        raise bad(f"{where}.json_schema must be an object with name and schema", f"{where}.json_schema")
    return schema_grammar(described, f"{where}.json_schema")


def schema_grammar(described: Mapping[str, Any], where: str) -> Grammar:
    """From {"name", "schema", "strict", "description"}."""
    _only(described, ("name", "schema", "strict", "description", "type"), where)
    name, schema, strict = described.get("name"), described.get("schema"), described.get("strict")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise bad(f"{where}.name must be 1 to 64 letters, digits, - and _", f"{where}.name")
    if not isinstance(schema, Mapping):
        raise bad(f"{where}.schema must be an object", f"{where}.schema")
    if strict is not None and not isinstance(strict, bool):
        raise bad(f"{where}.strict must be true or false", f"{where}.strict")
    if strict:
        if schema.get("type") != "object":
            raise bad(f"{where}.schema: a strict schema's root has the type object", f"{where}.schema")
        _check_strict(schema, f"{where}.schema", 0)
    return for_schema(dict(schema), f"{where}.schema")


def for_schema(schema: dict[str, Any], where: str) -> Grammar:
    try:
        return Grammar.for_schema(schema)
    except OwnlmError as error:
        raise bad(str(error), where) from error


def _check_strict(schema: Any, where: str, depth: int) -> None:
    if depth > _DEEPEST:
        raise bad(f"{where} is nested too deeply", where)
    if not isinstance(schema, Mapping):
        return
    properties = schema.get("properties")
    if schema.get("type") == "object" or properties is not None:
        if schema.get("additionalProperties") is not False:
            raise bad(f'{where}: a strict object says "additionalProperties": false', where)
        required = schema.get("required", [])
        names = properties if isinstance(properties, Mapping) else {}
        missing = [name for name in names if name not in (required if isinstance(required, list) else [])]
        if missing:
            raise bad(f"{where}: a strict object lists all its properties as required; {missing[0]} is not", where)
    for name in _BY_NAME:
        if isinstance(below := schema.get(name), Mapping):
            for key, one in below.items():
                _check_strict(one, f"{where}.{name}.{key}", depth + 1)
    for name in _LISTED:
        if isinstance(below := schema.get(name), list):
            for number, one in enumerate(below):
                _check_strict(one, f"{where}.{name}[{number}]", depth + 1)
    for name in _ONE:
        _check_strict(schema.get(name), f"{where}.{name}", depth + 1)


def _only(given: Mapping[str, Any], known: tuple[str, ...], where: str) -> None:
    for name in given:
        if name not in known:
            raise bad(f"{where}.{name} is not supported", f"{where}.{name}")
