"""The settings: their ranges, and what the documentation says of them."""

from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from ownlm.engine import Sampling
from ownlm.errors import OwnlmError
from ownlm.opened import make_sampling

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "sampling.md").read_text(encoding="utf-8")
NAN = float("nan")


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("max_tokens", [0, 1.5, "9", NAN]),
        ("min_tokens", [-1, 257]),
        ("temperature", [-1, -0.1, NAN, float("inf"), "hot", None, True]),
        ("top_k", [-1, 2.5]),
        ("top_p", [0.0, 1.1, 2, NAN]),
        ("min_p", [1.0, -0.1, NAN]),
        ("typical_p", [0.0, 1.1, NAN]),
        ("xtc_probability", [-0.1, 1.1, NAN]),
        ("xtc_threshold", [0.0, 0.6, NAN]),
        ("mirostat", [1, 3, -1]),
        ("mirostat_tau", [-1, NAN, float("inf")]),
        ("mirostat_eta", [-0.1, 2, NAN]),
        ("logit_bias", [{1: 101}, {1: -101}, {1: NAN}, {-1: 0}, {"one": 1}, {1: "one"}, [1], 5]),
        ("repetition_penalty", [0.0, NAN, float("inf")]),
        ("frequency_penalty", [-2.1, 2.1, NAN]),
        ("presence_penalty", [-2.1, 2.1, NAN]),
        ("dry_multiplier", [-1, NAN, float("inf")]),
        ("dry_base", [0.9, NAN]),
        ("dry_allowed_length", [0, 1.5]),
        ("dry_breaker_ids", [(-1,), ("x",), 5]),
        ("seed", [2**63, -(2**63), 0.5]),
        ("n", [0, 129]),
        ("stop", [("",), ("x" * 1001,), (5,), ("x",) * 100_001, 5]),
        ("stop_ids", [(-1,), 5]),
        ("ignore_eos", ["no"]),
        ("logprobs", [-1, 21, True]),
        ("prompt_logprobs", [1]),
        ("echo", [None]),
    ],
)
def test_impossible_settings_are_refused_in_a_short_line(name: str, wrong: list[Any]) -> None:
    for value in wrong:
        with pytest.raises(OwnlmError, match=rf"^{name} must be .*, got ") as refused:
            make_sampling({name: value})
        assert len(str(refused.value)) < 200


def test_an_unknown_setting_is_named() -> None:
    with pytest.raises(OwnlmError, match=r"'temprature'.*temperature"):
        make_sampling({"temprature": 1})


def test_settings_as_json_has_them() -> None:
    made = make_sampling({"stop": "end", "stop_ids": [3, 4], "logit_bias": {"123": 5}, "temperature": 1})
    assert (made.stop, made.stop_ids, made.logit_bias) == (("end",), (3, 4), {123: 5})
    assert make_sampling({"stop": ["a", "b"]}).stop == ("a", "b")
    assert make_sampling({"stop": None}).stop == ()


def test_settings_are_kept_and_compared() -> None:
    bias = {1: 2.0}
    made = Sampling(logit_bias=bias)
    bias[1] = 3.0
    assert made == Sampling(logit_bias={1: 2.0}) and hash(made) == hash(Sampling(logit_bias={1: 2.0}))
    assert Sampling().logit_bias == {}


@pytest.mark.parametrize("settings", [{"logit_bias": {50: 1.0}}, {"stop_ids": (50,)}, {"dry_breaker_ids": (3, 50)}])
def test_ids_beyond_the_vocabulary_are_refused(settings: dict[str, Any]) -> None:
    Sampling(**settings).check_ids(51)
    with pytest.raises(OwnlmError, match=r"names token 50, the vocabulary ends at 49"):
        Sampling(**settings).check_ids(50)


def test_the_page_lists_every_setting_with_its_default() -> None:
    rows = [line for line in PAGE.splitlines() if line.startswith("| `")]
    for field in fields(Sampling):
        default = getattr(Sampling(), field.name)
        shown = "no" if default is False else "none" if default in (None, (), {}) else f"{default:g}"
        assert any(row.startswith(f"| `{field.name}` | {shown} | ") for row in rows), field.name
    assert len(rows) == len(fields(Sampling))


@pytest.mark.parametrize(
    "settings",
    [
        {"temperature": 1e39},
        {"temperature": 10**400},
        {"repetition_penalty": 1e-40},
        {"dry_multiplier": 1e-300},
        {"dry_base": 1e300},
        {"mirostat_tau": 1e300},
    ],
)
def test_a_number_beyond_all_use_is_refused_before_it_overflows(settings: dict[str, float]) -> None:
    (name,) = settings
    with pytest.raises(OwnlmError, match=f"{name} must be"):
        Sampling(**settings)  # type: ignore[arg-type]
