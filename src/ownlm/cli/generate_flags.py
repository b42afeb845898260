"""The flags of `ownlm generate` that say how tokens are drawn, when it ends, and what the answer must look like.

Each dataclass is a part of the command's help; their fields are keywords of Model.generate, or become one.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Group, Parameter

from ownlm.errors import OwnlmError

if TYPE_CHECKING:
    from ownlm.engine.grammar import Grammar

ENDING = Group("How long, how often", sort_key=1)
DRAWING = Group("How tokens are drawn", sort_key=2)
FORM = Group("What the answer must look like (one of these)", sort_key=3)
RARE = Group("Rarer ways to draw (docs/sampling.md)", sort_key=4)

_many = Parameter(show_default=False)
_flag = Parameter(negative="")
_SUFFIXES = {".lark": "lark", ".gbnf": "gbnf"}


@Parameter(name="*", group=ENDING)
@dataclass(frozen=True, kw_only=True)
class EndingFlags:
    """
    Parameters
    ----------
    max_tokens
        Tokens at most.
    min_tokens
        No end before so many tokens.
    stop
        End before this text; may be given several times.
    ignore_eos
        Go on past the end of the text, up to max_tokens.
    n
        So many answers to the one prompt.
    """

    max_tokens: int = 200
    min_tokens: int = 0
    stop: Annotated[tuple[str, ...], _many] = ()
    ignore_eos: Annotated[bool, _flag] = False
    n: int = 1


@Parameter(name="*", group=DRAWING)
@dataclass(frozen=True, kw_only=True)
class DrawingFlags:
    """
    Parameters
    ----------
    temperature
        0 always takes the likeliest token; higher is bolder.
    top_k
        Choose among the k likeliest tokens; 0: among all.
    top_p
        Choose among the likeliest tokens that together have this probability.
    min_p
        Leave out what is less likely than this share of the likeliest.
    seed
        The same seed gives the same text.
    repetition_penalty
        Above 1 makes tokens that were there less likely.
    frequency_penalty
        Makes tokens of the answer less likely, the more the oftener they came; below 0 likelier.
    presence_penalty
        Makes tokens of the answer less likely; below 0 likelier.
    logit_bias
        ID=VALUE adds to a token's score, from -100 (never) to 100; may be given several times.
    """

    temperature: float = 0.8
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    seed: int | None = None
    repetition_penalty: float = 1.0
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    logit_bias: Annotated[tuple[str, ...], _many] = ()


@Parameter(name="*", group=RARE)
@dataclass(frozen=True, kw_only=True)
class RareFlags:
    """
    Parameters
    ----------
    typical_p
        Choose among tokens as surprising as is to be expected, that together have this probability.
    xtc_probability
        How often XTC leaves out all likely tokens but the least likely of them.
    xtc_threshold
        What XTC takes for likely.
    dry_multiplier
        Makes tokens that would go on with a repeat less likely; 0: off.
    dry_base
        How much more so for each token that the repeat has already.
    dry_allowed_length
        Repeats up to this length are free.
    mirostat
        2: keep the text's surprise near mirostat_tau, in place of the other cuts.
    mirostat_tau
        Bits a token.
    mirostat_eta
        How fast it follows.
    """

    typical_p: float = 1.0
    xtc_probability: float = 0.0
    xtc_threshold: float = 0.1
    dry_multiplier: float = 0.0
    dry_base: float = 1.75
    dry_allowed_length: int = 2
    mirostat: int = 0
    mirostat_tau: float = 5.0
    mirostat_eta: float = 0.1


@Parameter(name="*", group=FORM)
@dataclass(frozen=True, kw_only=True)
class FormFlags:
    """
    Parameters
    ----------
    json_schema
        A JSON schema, or a file that holds one.
    regex
        A regular expression that the whole answer matches.
    choice
        A text that the answer may be; given several times.
    grammar
        A file with a grammar: Lark's (.lark) or llama.cpp's (.gbnf).
    """

    json_schema: str | None = None
    regex: str | None = None
    choice: Annotated[tuple[str, ...], _many] = ()
    grammar: Path | None = None

    @property
    def given(self) -> bool:
        return any(value not in (None, ()) for value in (self.json_schema, self.regex, self.choice, self.grammar))

    def keywords(self) -> dict[str, Any]:
        asked = {
            "json_schema": None if self.json_schema is None else _schema(self.json_schema),
            "regex": self.regex,
            "choices": self.choice or None,
            "grammar": None if self.grammar is None else _grammar(self.grammar),
        }
        return {name: value for name, value in asked.items() if value is not None}


def biases(given: tuple[str, ...]) -> dict[int, float]:
    """ID=VALUE, several times."""
    found = {}
    for text in given:
        id, _, value = text.partition("=")
        try:
            found[int(id)] = float(value)
        except ValueError:
            raise OwnlmError(f"--logit-bias takes ID=VALUE, such as 42=-100, got {text!r}") from None
    return found


def _schema(text: str) -> Any:
    """A schema begins with a brace; true and false are schemas too; all else is a file's name."""
    here = text.lstrip().startswith("{") or text.strip() in ("true", "false")
    name = "--json-schema" if here else text
    try:
        schema = json.loads(text if here else _content(Path(text)))
    except (ValueError, RecursionError) as error:
        raise OwnlmError(f"{name} is no JSON: {str(error).splitlines()[0]}") from None
    if not isinstance(schema, dict | bool):
        raise OwnlmError(f"{name} is no JSON schema but a {type(schema).__name__}; a schema is an object")
    return schema


def _grammar(path: Path) -> "Grammar":
    from ownlm.engine.grammar import Grammar

    kind = _SUFFIXES.get(path.suffix.lower())
    if kind is None:
        raise OwnlmError(f"--grammar takes a file that ends in {' or '.join(_SUFFIXES)}, got {path}")
    return Grammar(kind=kind, text=_content(path))  # type: ignore[arg-type]


def _content(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise OwnlmError(f"no such file: {path}") from None
    except UnicodeDecodeError:
        raise OwnlmError(f"{path} is no UTF-8 text") from None
    except (OSError, ValueError) as error:
        raise OwnlmError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from None
