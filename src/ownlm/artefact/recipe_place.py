"""Where a mistake in a recipe stands: a line of the file, or a --set of the command line.

In:  the tree as YAML read it, overrides included; the file's name; the overrides.
Out: "mine.yaml:6" or "--set train.rows=0", for a key, or for a message of a dataclass that checked its values.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any, get_args, get_type_hints

from ruamel.yaml.comments import CommentedMap

from ownlm.errors import OwnlmError

Place = tuple[str, ...]
# Raises OwnlmError where a section's own check refuses its values.
Check = Callable[[Any, Mapping[str, Any]], object]


class Places:
    def __init__(self, tree: Any, name: str, overrides: Sequence[str] = ()) -> None:
        self.tree, self.name = tree, name
        self.overrides = {tuple(override.partition("=")[0].split(".")): override for override in overrides}

    def of(self, place: Place) -> str:
        """The line of `place`, or of the nearest section around it that has one."""
        for length in range(len(place), 0, -1):
            if override := self.overrides.get(place[:length]):
                return f"--set {override}"[:120]
        keys_with_lines, line = self._line(place)
        made = [override for path, override in self.overrides.items() if path[: len(place)] == place]
        if made and keys_with_lines < len(place):
            return f"--set {made[0]}"[:120]
        return self.name + line

    def named_in(self, message: str, kind: Any, check: Check) -> str:
        """Where the value stands that `message` speaks of: the section whose check raised it, then the keys it names.

        A check of a dataclass knows its fields and neither file nor line.
        """
        place, section = self._failing(kind, self.tree, check)
        while isinstance(section, Mapping):
            named = [key for key in section if _position(key, message) >= 0]
            if not named:
                break
            from_command_line = [key for key in named if self._overridden((*place, str(key)))]
            key = min(from_command_line or named, key=lambda key: _position(key, message))
            place, section = (*place, str(key)), section[key]
        return self.of(place)

    def _failing(self, kind: Any, tree: Any, check: Check) -> tuple[Place, Any]:
        hints = get_type_hints(kind)
        for field in fields(kind):
            inner, value = dataclass_in(hints[field.name]), tree.get(field.name)
            if inner is None or not isinstance(value, Mapping):
                continue
            try:
                check(inner, value)
            except OwnlmError:
                place, section = self._failing(inner, value, check)
                return (field.name, *place), section
        return (), tree

    def _overridden(self, place: Place) -> bool:
        return any(path[: len(place)] == place for path in self.overrides)

    def _line(self, place: Place) -> tuple[int, str]:
        """How many keys of `place` stand in the file, and ":12" for the last of them."""
        tree, line = self.tree, ""
        for depth, key in enumerate(place):
            if not isinstance(tree, CommentedMap) or key not in tree:
                return depth, line
            try:
                line = f":{tree.lc.key(key)[0] + 1}"
            except (KeyError, AttributeError, TypeError):
                return depth, line
            tree = tree[key]
        return len(place), line


def dataclass_in(kind: Any) -> Any:
    """The dataclass in `kind` or in its union with None."""
    for candidate in (kind, *get_args(kind)):
        if isinstance(candidate, type) and is_dataclass(candidate):
            return candidate
    return None


def _position(key: Any, message: str) -> int:
    """Where `message` names `key` as a word; -1: nowhere."""
    found = re.search(rf"(?<!\w){re.escape(str(key))}(?!\w)", message)
    return found.start() if found else -1
