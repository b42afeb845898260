"""The policy file: which texts are refused, masked or noted, on their way to a model and from it.

policy.toml ──read_policy──▶ Policy, every rule checked and ready to search; what is wrong is named with its line

    refusal = "I cannot help with that."

    [[rules]]
    name = "house secrets"
    where = "both"                       # input, output or both
    words = ["Project Bluebird"]         # or patterns, personal_data, guard_model
    action = "refuse"                    # refuse, mask or log
"""

import difflib
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ownlm.errors import OwnlmError
from ownlm.server.guard.find import LONGEST, Finder, Patterns, Personal, Words

REFUSAL = "This cannot be answered here."
_WHAT = ("words", "patterns", "personal_data", "guard_model")
_NAME = re.compile(r"[^\x00-\x1f\x7f]{1,64}")


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class GuardModel(_Table):
    """A model that says of a text whether it is safe: one behind a URL of the operator's, or one that is served here.

    `key_from`: the environment variable that holds the key. `prompt`: the question, with {text} for what is judged and,
    in output rules, {asked} for what it answers; without one the texts go as a conversation, as Llama Guard wants them.
    """

    model: str = Field(min_length=1)
    url: str | None = None
    key_from: str | None = None
    prompt: str | None = None
    safe: str = Field("safe", min_length=1)
    unsafe: str = Field("unsafe", min_length=1)
    seconds: float = Field(10.0, gt=0, le=600)
    on_failure: Literal["refuse", "allow"] = "refuse"


class _RuleTable(_Table):
    name: str
    where: Literal["input", "output", "both"]
    action: Literal["refuse", "mask", "log"]
    words: list[str] | None = Field(None, min_length=1)
    patterns: list[str] | None = Field(None, min_length=1)
    personal_data: list[str] | None = Field(None, min_length=1)
    guard_model: GuardModel | None = None
    refusal: str | None = Field(None, min_length=1)
    mask: str | None = Field(None, min_length=1)
    hold: Literal["all"] | None = None
    models: list[str] | None = Field(None, min_length=1)
    keys: list[str] | None = Field(None, min_length=1)


class _PolicyTable(_Table):
    refusal: str = Field(REFUSAL, min_length=1)
    rules: list[_RuleTable] = Field(min_length=1)


@dataclass(frozen=True, kw_only=True)
class Rule:
    """`finder` or `judge`. `models`, `keys`: names that it is for; None: all. `hold_all`: it wants the whole answer."""

    name: str
    input: bool
    output: bool
    action: Literal["refuse", "mask", "log"]
    refusal: str
    finder: Finder | None = None
    judge: GuardModel | None = None
    mask: str | None = None
    hold_all: bool = False
    models: frozenset[str] | None = None
    keys: frozenset[str] | None = None

    def is_for(self, models: Sequence[str], key: str) -> bool:
        """`models`: the names of one, with its adapter and without."""
        fits = self.models is None or any(name in self.models for name in models)
        return fits and (self.keys is None or key in self.keys)

    def masked(self, kind: str) -> str:
        """What stands in the place of a match."""
        return self.mask if self.mask is not None else f"[{kind or self.name}]"


@dataclass(frozen=True, kw_only=True)
class Policy:
    rules: Sequence[Rule]

    @property
    def guard_models(self) -> frozenset[str]:
        """Those that must be served here."""
        return frozenset(one.judge.model for one in self.rules if one.judge is not None and one.judge.url is None)

    def check_names(self, served: Sequence[str]) -> None:
        """OwnlmError where a rule is for a model that there is not."""
        for rule in self.rules:
            if unknown := sorted((rule.models or frozenset()) - set(served)):
                raise OwnlmError(
                    f"the policy's rule {rule.name!r} is for the model {unknown[0]!r}; served are {', '.join(served)}"
                )


def read_policy(path: Path) -> Policy:
    """OwnlmError says in one line what is wrong, and where."""
    try:
        text = path.read_text(encoding="utf-8")
        found = tomllib.loads(text)
    except OSError as error:
        raise OwnlmError(f"{path} cannot be read: {error.strerror}; name another --policy") from None
    except UnicodeDecodeError:
        raise OwnlmError(f"{path} is not UTF-8 text; write it as such") from None
    except tomllib.TOMLDecodeError as error:
        raise OwnlmError(f"{path} is no TOML: {error}") from None
    try:
        table = _PolicyTable.model_validate(found)
    except ValidationError as error:
        raise _told(path, text, found, error.errors()[0]) from None
    names: set[str] = set()
    rules = []
    for number, rule in enumerate(table.rules):
        try:
            if rule.name in names:
                raise OwnlmError("another rule has the same name")
            names.add(rule.name)
            rules.append(_rule(rule, table.refusal))
        except OwnlmError as error:
            raise OwnlmError(f"{_place(path, text, number, found)}: {error}") from None
    return Policy(rules=rules)


def _rule(table: _RuleTable, refusal: str) -> Rule:
    if not _NAME.fullmatch(table.name):
        raise OwnlmError("name must have 1 to 64 characters that can be printed")
    given = [name for name in _WHAT if getattr(table, name) is not None]
    if len(given) != 1:
        raise OwnlmError(f"a rule has one of {', '.join(_WHAT)}, and this has {' and '.join(given) or 'none'}")
    if table.mask is not None and table.action != "mask":
        raise OwnlmError('mask is for action = "mask"')
    if table.refusal is not None and table.action != "refuse":
        raise OwnlmError('refusal is for action = "refuse"')
    finder, judge = _finder(table), table.guard_model
    outputs = table.where in ("output", "both")
    if judge is not None:
        _check_judge(judge)
        if table.action == "mask":
            raise OwnlmError("a guard model judges a text and finds no place in it; refuse or log")
    elif outputs and table.hold is None:
        assert finder is not None
        if finder.longest is None:
            raise OwnlmError(
                f"a pattern may match more than {LONGEST} characters, or nobody can tell how many, and a stream cannot "
                'hold back so much; bound it, such as {1,64} for +, or say hold = "all"'
            )
    return Rule(
        name=table.name,
        input=table.where in ("input", "both"),
        output=outputs,
        action=table.action,
        refusal=table.refusal or refusal,
        finder=finder,
        judge=judge,
        mask=table.mask,
        hold_all=judge is not None or table.hold == "all",
        models=None if table.models is None else frozenset(table.models),
        keys=None if table.keys is None else frozenset(table.keys),
    )


def _finder(table: _RuleTable) -> Finder | None:
    if table.words is not None:
        return Words(table.words)
    if table.patterns is not None:
        return Patterns(table.patterns)
    return None if table.personal_data is None else Personal(table.personal_data)


def _check_judge(judge: GuardModel) -> None:
    if judge.url is None:
        if judge.key_from is not None:
            raise OwnlmError("guard_model.key_from goes with url")
    elif not re.fullmatch(r"https?://[^/\s@?#]+[^\s@?#]*", judge.url):
        raise OwnlmError("guard_model.url must be such as http://127.0.0.1:9000/v1, without a password in it")
    if judge.prompt is not None and "{text}" not in judge.prompt:
        raise OwnlmError("guard_model.prompt must hold {text}, where the text is put")
    if judge.safe.casefold() == judge.unsafe.casefold():
        raise OwnlmError("guard_model.safe and unsafe must differ")


def _told(path: Path, text: str, found: Mapping[str, Any], error: Any) -> OwnlmError:
    place = list(error["loc"])
    number = place[1] if len(place) > 1 and place[0] == "rules" else None
    where = _place(path, text, number, found)
    inner = [str(part) for part in (place[2:] if number is not None else place)]
    name = ".".join(inner)
    if error["type"] == "extra_forbidden":
        table = _PolicyTable if number is None else GuardModel if len(inner) > 1 else _RuleTable
        near = difflib.get_close_matches(inner[-1], table.model_fields, 1)
        return OwnlmError(f"{where}: unknown key {name[:80]!r}{f'; is it {near[0]!r}?' if near else ''}")
    if error["type"] == "missing":
        return OwnlmError(f"{where}: {name} is missing")
    return OwnlmError(f"{where}: {name or 'the rule'}: {error['msg'][0].lower()}{error['msg'][1:]}")


def _place(path: Path, text: str, number: int | None, found: Mapping[str, Any]) -> str:
    """The file, and of a rule its line and name."""
    if number is None:
        return str(path)
    lines = [at for at, line in enumerate(text.splitlines(), 1) if re.match(r"\s*\[\[\s*rules\s*\]\]", line)]
    line = f", line {lines[number]}" if number < len(lines) else ""
    rule = found["rules"][number]
    name = rule.get("name") if isinstance(rule, dict) else None
    return f"{path}{line}, rule {repr(name[:80]) if isinstance(name, str) else number + 1}"
