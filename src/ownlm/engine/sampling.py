"""What a user asks of one request: how its tokens are drawn and when it ends.

The order in which the settings act is sampler.py's; docs/sampling.md lists each with its source.
"""

import reprlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from numbers import Integral, Real
from typing import Any

from ownlm.errors import OwnlmError

MOST_CHOICES = 128
MOST_LOGPROBS = 20
# Every new piece of text is held against the stop strings: these keep that short whoever asks.
MOST_STOP_STRINGS = 100_000
LONGEST_STOP_STRING = 1_000
# A logit bias of this much bans the token, as in OpenAI's API.
BAN = -100


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How one answer is drawn and when it ends; the defaults switch everything off but the temperature.

    top_k 0 and top_p 1 leave all tokens in; min_p drops what is less likely than min_p times the best;
    repetition_penalty above 1 makes tokens of prompt and answer less likely (arXiv:1909.05858), the frequency and
    presence penalties those of the answer alone. min_tokens keeps the end away until so many tokens were drawn.
    logprobs k asks for the k likeliest at every token besides the chosen one's; echo gives the prompt back in front.
    """

    max_tokens: int = 256
    min_tokens: int = 0
    temperature: float = 0.8
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    typical_p: float = 1.0
    xtc_probability: float = 0.0
    xtc_threshold: float = 0.1
    mirostat: int = 0
    mirostat_tau: float = 5.0
    mirostat_eta: float = 0.1
    logit_bias: Mapping[int, float] = field(default_factory=dict, hash=False)
    repetition_penalty: float = 1.0
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    dry_multiplier: float = 0.0
    dry_base: float = 1.75
    dry_allowed_length: int = 2
    dry_breaker_ids: tuple[int, ...] = ()
    seed: int | None = None
    n: int = 1
    stop: tuple[str, ...] = ()
    stop_ids: tuple[int, ...] = ()
    ignore_eos: bool = False
    logprobs: int | None = None
    prompt_logprobs: bool = False
    echo: bool = False

    def __post_init__(self) -> None:
        checks = {
            "max_tokens": (_whole(self.max_tokens, 1), "at least 1"),
            "min_tokens": (_whole(self.min_tokens, 0), "0 or more"),
            "temperature": (_real(self.temperature, 0, most=1e4), "0 (greedy) or more, at most 10,000"),
            "top_k": (_whole(self.top_k, 0), "0 (off) or more"),
            "top_p": (_real(self.top_p, above=0, most=1), "above 0 and at most 1"),
            "min_p": (_real(self.min_p, 0, below=1), "at least 0 and below 1"),
            "typical_p": (_real(self.typical_p, above=0, most=1), "above 0 and at most 1"),
            "xtc_probability": (_real(self.xtc_probability, 0, most=1), "between 0 (off) and 1"),
            "xtc_threshold": (_real(self.xtc_threshold, above=0, most=0.5), "above 0 and at most 0.5"),
            "mirostat": (_whole(self.mirostat, 0, 2) and self.mirostat != 1, "0 (off) or 2"),
            "mirostat_tau": (_real(self.mirostat_tau, 0, most=1e4), "between 0 and 10,000"),
            "mirostat_eta": (_real(self.mirostat_eta, 0, most=1), "between 0 and 1"),
            "logit_bias": (_is_bias(self.logit_bias), f"numbers between {BAN} (ban) and 100 by token id"),
            "repetition_penalty": (_real(self.repetition_penalty, 1e-3, most=1e3), "between 0.001 and 1,000"),
            "frequency_penalty": (_real(self.frequency_penalty, -2, most=2), "between -2 and 2"),
            "presence_penalty": (_real(self.presence_penalty, -2, most=2), "between -2 and 2"),
            "dry_multiplier": (
                self.dry_multiplier == 0 or _real(self.dry_multiplier, 1e-6, most=1e6),
                "0 (off) or between 0.000001 and 1,000,000",
            ),
            "dry_base": (_real(self.dry_base, 1, most=1e6), "between 1 and 1,000,000"),
            "dry_allowed_length": (_whole(self.dry_allowed_length, 1), "at least 1"),
            "dry_breaker_ids": (_are_ids(self.dry_breaker_ids), "token ids"),
            "seed": (self.seed is None or _whole(self.seed, 1 - 2**63, 2**63 - 1), "between -2**63 and 2**63"),
            "n": (_whole(self.n, 1, MOST_CHOICES), f"between 1 and {MOST_CHOICES}"),
            "stop": (
                _are_texts(self.stop),
                f"made of texts that are not empty: at most {MOST_STOP_STRINGS:,}, "
                f"none over {LONGEST_STOP_STRING:,} characters",
            ),
            "stop_ids": (_are_ids(self.stop_ids), "token ids"),
            "ignore_eos": (isinstance(self.ignore_eos, bool), "true or false"),
            "logprobs": (
                self.logprobs is None or _whole(self.logprobs, 0, MOST_LOGPROBS),
                f"between 0 and {MOST_LOGPROBS}",
            ),
            "prompt_logprobs": (isinstance(self.prompt_logprobs, bool), "true or false"),
            "echo": (isinstance(self.echo, bool), "true or false"),
        }
        assert len(checks) == len(self.__dataclass_fields__)
        for name, (right, wanted) in checks.items():
            if not right:
                raise OwnlmError(f"{name} must be {wanted}, got {reprlib.repr(getattr(self, name))}")
        if self.min_tokens > self.max_tokens:
            raise OwnlmError(f"min_tokens must be at most max_tokens, {self.max_tokens}, got {self.min_tokens}")
        # A copy: what the caller does to its own dictionary later changes no request.
        object.__setattr__(self, "logit_bias", dict(self.logit_bias))

    def check_ids(self, vocab_size: int) -> None:
        """OwnlmError when a setting names a token id that the vocabulary lacks."""
        for name in ("logit_bias", "stop_ids", "dry_breaker_ids"):
            beyond = [id for id in getattr(self, name) if id >= vocab_size]
            if beyond:
                raise OwnlmError(f"{name} names token {beyond[0]}, the vocabulary ends at {vocab_size - 1}")


def _whole(value: Any, least: float, most: float = float("inf")) -> bool:
    return not isinstance(value, bool) and isinstance(value, Integral) and least <= int(value) <= most


def _real(
    value: Any,
    least: float = float("-inf"),
    *,
    above: float = float("-inf"),
    most: float = float("inf"),
    below: float | None = None,
) -> bool:
    """A number in the range; NaN is in none."""
    if isinstance(value, bool) or not isinstance(value, Real):
        return False
    try:
        number = float(value)
    except OverflowError:
        return False
    return least <= number <= most and number > above and (below is None or number < below)


def _is_bias(value: Any) -> bool:
    return isinstance(value, Mapping) and all(
        _whole(id, 0) and _real(bias, BAN, most=100) for id, bias in value.items()
    )


def _are_ids(value: Any) -> bool:
    return isinstance(value, tuple) and all(_whole(id, 0) for id in value)


def _are_texts(value: Any) -> bool:
    return (
        isinstance(value, tuple)
        and len(value) <= MOST_STOP_STRINGS
        and all(isinstance(text, str) and 0 < len(text) <= LONGEST_STOP_STRING for text in value)
    )
