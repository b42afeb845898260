"""Recipes: YAML that a frozen dataclass mirrors field by field.

Unknown keys, wrong types and impossible values are refused with the line (or the --set), and the nearest right
name, before anything runs. `--set train.rows=8` overrides one value, read as YAML reads it.
"""

import contextlib
import difflib
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import fields
from importlib.resources import files
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

import pydantic
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap
from ruamel.yaml.error import YAMLError

from ownlm.artefact.recipe_place import Places, dataclass_in
from ownlm.errors import OwnlmError

T = TypeVar("T")


PACKAGED = "ownlm.recipes"


def recipe_names() -> list[str]:
    """The recipes that come with the package."""
    return sorted(file.name.removesuffix(".yaml") for file in files(PACKAGED).iterdir() if file.name.endswith(".yaml"))


def packaged_recipe(name: str) -> str:
    """The text of a recipe that comes with the package."""
    return files(PACKAGED).joinpath(f"{name}.yaml").read_text(encoding="utf-8")


def read_recipe(path: Path, kind: type[T], overrides: Sequence[str] = ()) -> T:
    """The recipe at `path` as a `kind`, after `overrides` ("a.b=value"); or the packaged one of that name."""
    if not path.exists() and str(path) in recipe_names():
        return parse_recipe(packaged_recipe(str(path)), kind, overrides, name=f"{path}.yaml")
    if not path.is_file():
        raise OwnlmError(f"no such recipe: {path}; `ownlm quickstart --show-recipe` prints one to begin with")
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise OwnlmError(f"{path} is no UTF-8 text; name a recipe, a file of `key: value` lines") from None
    return parse_recipe(text, kind, overrides, name=str(path))


def parse_recipe(text: str, kind: type[T], overrides: Sequence[str] = (), *, name: str = "recipe") -> T:
    try:
        tree = YAML(typ="rt").load(text)
    except YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{name}:{mark.line + 1}" if mark else name
        raise OwnlmError(f"{where}: not YAML ({getattr(error, 'problem', error)}); mend that line") from None
    tree = CommentedMap() if tree is None else tree
    if not isinstance(tree, CommentedMap):
        raise OwnlmError(f"{name}: a recipe is `key: value` lines; this is a {type(tree).__name__}")
    for override in overrides:
        _override(tree, override)
    return from_mapping(kind, tree, name, overrides)


def from_mapping(kind: type[T], tree: Mapping[str, Any], name: str, overrides: Sequence[str] = ()) -> T:
    """`tree`, in which `overrides` stand already, as a `kind`: strict about types and names."""
    places = Places(tree, name, overrides)
    _refuse_unknown(tree, kind, places, ())
    try:
        return _validated(kind, tree)
    except OwnlmError as error:
        # A dataclass's own check of its values; it knows no file.
        raise OwnlmError(f"{places.named_in(str(error), kind, _check)}: {error}") from None
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        place = tuple(str(part) for part in first["loc"])
        raise OwnlmError(
            f"{places.of(place)}: {'.'.join(place) or 'recipe'}: {first['msg']}, got {first['input']!r}"[:300]
        ) from None


def _validated(kind: type[T], tree: Mapping[str, Any]) -> T:
    # As JSON, strict mode takes a list for a tuple and a text for a path, and nothing else.
    return pydantic.TypeAdapter(kind).validate_json(json.dumps(_plain(tree), default=str), strict=True)


def _check(kind: Any, tree: Mapping[str, Any]) -> None:
    """One section alone: OwnlmError where it is that section's check that refuses."""
    with contextlib.suppress(pydantic.ValidationError):
        _validated(kind, tree)


def to_yaml(value: Any) -> str:
    """A dataclass as the YAML that read_recipe would read it from."""
    yaml = YAML()
    yaml.default_flow_style = False
    out = io.StringIO()
    yaml.dump(pydantic.TypeAdapter(type(value)).dump_python(value, mode="json"), out)
    return out.getvalue()


def _override(tree: CommentedMap, override: str) -> None:
    path, equals, text = override.partition("=")
    if not equals or not path:
        raise OwnlmError(f"--set takes name=value, such as train.rows=8; got {override!r}")
    *parents, last = path.split(".")
    node: Any = tree
    for parent in parents:
        if not isinstance(node.get(parent), CommentedMap):
            node[parent] = CommentedMap()
        node = node[parent]
    try:
        node[last] = YAML(typ="safe").load(text)
    except YAMLError:
        raise OwnlmError(f"--set {path}: {text!r} is no YAML value; put texts in quotes") from None


def _refuse_unknown(tree: Any, kind: Any, places: Places, place: tuple[str, ...]) -> None:
    kind = dataclass_in(kind)
    if kind is None or not isinstance(tree, Mapping):
        return
    known = [field.name for field in fields(kind)]
    hints = get_type_hints(kind)
    for key, value in tree.items():
        full = (*place, str(key))
        if key not in known:
            near = difflib.get_close_matches(str(key), known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}"
            raise OwnlmError(f"{places.of(full)}: unknown key {'.'.join(full)}; {hint}")
        _refuse_unknown(value, hints[key], places, full)


def _plain(tree: Any) -> Any:
    if isinstance(tree, Mapping):
        return {str(key): _plain(value) for key, value in tree.items()}
    if isinstance(tree, (list, tuple)):
        return [_plain(value) for value in tree]
    return tree
