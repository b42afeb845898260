"""The public model: keywords in, answers with their figures out."""

import io
import json
import os
import signal
from itertools import chain, repeat
from pathlib import Path
from typing import Any

import pytest
import torch

from ownlm.cli.chat_loop import run_chat
from ownlm.cli.chat_session import ChatOptions
from ownlm.engine import EngineConfig
from ownlm.engine.grammar import Grammar
from ownlm.errors import OwnlmError
from ownlm.model.lora import LoraAdapter
from ownlm.model.lora_pair import LoraConfig
from ownlm.opened import Model, load

SCHEMA = {"type": "object", "properties": {"age": {"type": "integer", "maximum": 99}}, "required": ["age"]}
TREE = {"$ref": "#/$defs/t", "$defs": {"t": {"type": "array", "items": {"$ref": "#/$defs/t"}, "maxItems": 2}}}


@pytest.fixture(scope="module")
def base(workshop: Path) -> Model:
    return load(workshop / "base", engine=EngineConfig(max_sequences=4, cache_tokens=512))


def scripted(workshop: Path, text: bytes) -> Model:
    """A model that says the text byte by byte, and then ends."""
    model = load(workshop / "base")
    by_bytes = {model.tokenizer.token_bytes(id): id for id in range(model.tokenizer.vocab_size)}
    ids = iter([*(by_bytes[bytes([byte])] for byte in text), *[model.end_ids[0]] * 9])

    def head(hidden: torch.Tensor) -> torch.Tensor:
        logits = torch.zeros(len(hidden), model.decoder.config.vocab_size)
        logits[:, next(ids)] = 100.0
        return logits

    model.decoder.head = head  # type: ignore[method-assign]
    return model


@pytest.mark.parametrize(
    ("text", "asked", "expected", "offsets"),
    [
        ("aé🎹b", {}, "aé🎹b", [0, 1, 1, 2, 2, 2, 2, 3, 4]),
        ("ab\nUser", {"stop": "b\nU"}, "a", [0, 1, 1, 1]),
        ("ab", {"echo": True}, "The catab", [7, 8, 9]),
        ("né", {"max_tokens": 2}, "n\ufffd", [0, 1]),
    ],
)
def test_each_token_has_its_place_in_the_text(
    workshop: Path, text: str, asked: dict[str, Any], expected: str, offsets: list[int]
) -> None:
    answer = scripted(workshop, text.encode()).generate("The cat", temperature=0, **asked)
    assert (answer.text, answer.text_offsets) == (expected, offsets)
    assert len(answer.token_ids) == len(answer.logprobs) == len(offsets)


def test_an_answer_has_its_figures(base: Model) -> None:
    prompt = "The cat sat on a mat and saw how seven small dogs ran to their old red house in rain"
    asked: dict[str, Any] = {"max_tokens": 6, "temperature": 0, "ignore_eos": True}
    answer = base.generate(prompt, logprobs=2, prompt_logprobs=True, **asked)
    ids = base.tokenizer.prompt_ids(prompt)
    assert answer.usage == {"prompt_tokens": len(ids), "cached_tokens": 0, "completion_tokens": 6}
    assert [top[0] for top in answer.top_logprobs] == list(zip(answer.token_ids, answer.logprobs, strict=True))
    assert all(len(top) == 2 for top in answer.top_logprobs)
    assert answer.prompt_logprobs is not None and [token.token_id for token in answer.prompt_logprobs] == ids[1:]
    again = base.generate(prompt, **asked)
    assert again.text == answer.text and again.prompt_logprobs is None
    assert again.usage["cached_tokens"] > 0 and again.usage["cached_tokens"] % 16 == 0
    assert next(base.stream("The cat", echo=True, **asked)) == "The cat"


def test_choices_differ_and_each_is_what_its_seed_says(base: Model) -> None:
    asked: dict[str, Any] = {"max_tokens": 8, "temperature": 1.5, "ignore_eos": True}
    three = base.choices("The cat", n=3, seed=5, **asked)
    assert [answer.text for answer in three] == [base.generate("The cat", seed=5 + n, **asked).text for n in range(3)]
    for ask in (base.generate, base.stream):
        with pytest.raises(OwnlmError, match=r"model\.choices"):
            ask("The cat", n=2)


def test_texts_become_vectors_of_unit_length(base: Model) -> None:
    texts = ["The cat sat on a mat.", "Dogs"]
    vectors_NE = base.embed(texts)
    for vector_E, text in zip(vectors_NE, texts, strict=True):
        with torch.inference_mode():
            states_TE = base.decoder.hidden(torch.tensor([base.tokenizer.prompt_ids(text)]))[0]
        assert torch.allclose(vector_E, torch.nn.functional.normalize(states_TE.mean(0), dim=0), atol=1e-5)
    with pytest.raises(OwnlmError, match="no text"):
        base.embed([])


def test_beams_are_the_likeliest_first(base: Model) -> None:
    found = base.beams("The cat", beams=3, max_tokens=5)
    assert len(found) == 3 and all(len(answer.text_offsets) == len(answer.token_ids) for answer in found)
    means = [sum(answer.logprobs) / len(answer.logprobs) for answer in found]
    assert means == sorted(means, reverse=True)


@pytest.mark.parametrize("temperature", [0, 1.0])
def test_speculation_changes_no_answer_and_is_counted(workshop: Path, base: Model, temperature: float) -> None:
    asked: dict[str, Any] = {"max_tokens": 24, "temperature": temperature, "seed": 1, "ignore_eos": True}
    prompt = "The cat sat on the mat. The cat sat"
    expected = base.generate(prompt, **asked)
    for guesser in ("lookup", load(workshop / "base")):
        base.speculate(guesser)  # type: ignore[arg-type]
        answer = base.generate(prompt, **asked)
        assert answer.text == expected.text
        assert 0 <= answer.usage["accepted_tokens"] <= answer.usage["drafted_tokens"]
    base.speculate(None)
    assert answer.usage["drafted_tokens"] > 0 and base.generate(prompt, **asked).usage == expected.usage | {
        "cached_tokens": base.generate(prompt, **asked).usage["cached_tokens"]
    }
    with pytest.raises(OwnlmError, match="speculate takes"):
        base.speculate("magic")  # type: ignore[arg-type]


def test_an_adapter_is_one_requests_own(base: Model) -> None:
    adapter = LoraAdapter.new(base.decoder, LoraConfig(rank=2, alpha=64), modules=("q_proj", "v_proj"))
    for pair in adapter.pairs:
        torch.nn.init.ones_(pair.b_Or)  # type: ignore[arg-type]
    asked: dict[str, Any] = {"max_tokens": 9, "temperature": 0, "ignore_eos": True}
    plain = base.generate("The cat", **asked)
    assert base.generate("The cat", adapter=adapter, priority=1, **asked).logprobs != plain.logprobs
    assert base.generate("The cat", **asked).text == plain.text


@pytest.mark.parametrize(
    "form",
    [
        {"json_schema": SCHEMA},
        {"json_schema": json.dumps(SCHEMA)},
        {"regex": r'\{"age": ?[0-9]{1,2}\}'},
        {"choices": ['{"age": 7}', '{"age": 8}']},
        {"grammar": Grammar(kind="lark", text='start: "{\\"age\\": " /[0-9]/ "}"')},
    ],
)
def test_an_answer_has_the_form_that_is_asked_for(base: Model, form: dict[str, Any]) -> None:
    answer = base.generate("The cat", max_tokens=60, temperature=1, seed=3, **form)
    assert answer.finish_reason == "stop" and list(json.loads(answer.text)) == ["age"]


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"temperature": -1}, "temperature must be"),
        ({"top_p": 2}, "top_p must be"),
        ({"temperature": float("nan")}, "temperature must be"),
        ({"logprobs": 99}, "logprobs must be between 0 and 20"),
        ({"n": 0}, "one answer"),
        ({"regex": "a", "choices": ["a"]}, "give one of them"),
        ({"regex": "("}, "regular expression cannot be used"),
        ({"choices": "yes"}, "must be a tuple of texts"),
        ({"grammar": "start: x"}, "grammar must be"),
        ({"json_schema": "{"}, "JSON schema cannot be used"),
        ({"priority": 0.5}, "priority must be"),
        ({"tempreature": 1}, "unknown sampling setting 'tempreature'"),
    ],
)
def test_what_cannot_be_answered_is_refused_in_a_line(base: Model, asked: dict[str, Any], words: str) -> None:
    with pytest.raises(OwnlmError, match=words) as caught:
        base.generate("The cat", **asked)
    assert "\n" not in str(caught.value)
    assert base.engine.idle


def test_prompts_that_do_not_fit(base: Model) -> None:
    for prompt, words in (("", "the prompt is empty"), ("cat " * 999, "the model's context is")):
        with pytest.raises(OwnlmError, match=words):
            base.generate(prompt)


def test_scores_that_are_no_numbers_fail_every_choice_and_nobody_else(workshop: Path) -> None:
    model = load(workshop / "base")
    head = model.decoder.head
    # All three are being written when it happens: none begins before the first has read the prompt.
    factors = chain((1, 1, 1), repeat(torch.nan))
    model.decoder.head = lambda hidden: head(hidden) * next(factors)  # type: ignore[method-assign,assignment]
    with pytest.raises(OwnlmError, match="no finite numbers"):
        model.choices("The cat", n=3, ignore_eos=True)
    model.decoder.head = head  # type: ignore[method-assign]
    blocks = model.engine.scheduler.blocks
    assert model.engine.idle and blocks.free == blocks.count
    assert model.generate("The cat", max_tokens=2, ignore_eos=True).usage["completion_tokens"] == 2


def test_a_schema_with_recursion_and_a_long_stop_list_work(base: Model) -> None:
    answer = base.generate("The cat", max_tokens=60, temperature=0, json_schema=TREE)
    assert answer.finish_reason == "length" or isinstance(json.loads(answer.text), list)
    stop = [f"stop {number}" for number in range(10_000)]
    assert base.generate("The cat", max_tokens=4, stop=stop).usage["completion_tokens"] <= 4


class Interrupting(io.StringIO):
    """A terminal at which Ctrl-C is pressed as soon as something is shown."""

    def write(self, text: str) -> int:
        if text and not self.getvalue():
            os.kill(os.getpid(), signal.SIGINT)
        return super().write(text)


def test_an_answer_that_is_let_go_of_leaves_nothing_in_the_engine(workshop: Path) -> None:
    model = load(workshop / "chat")
    blocks = model.engine.scheduler.blocks
    messages = [{"role": "user", "content": "Who are you?"}]
    del_unread = model.stream_chat(messages)
    assert not model.engine.idle
    del del_unread
    assert model.engine.idle and blocks.free == blocks.count
    # Ctrl-C: `cancel` from a signal handler, while a piece is being shown.
    answer = model.stream_chat(messages, max_tokens=50, ignore_eos=True)
    for _ in answer:
        answer.cancel()
    assert (answer.finish_reason, answer.tokens) == ("cancelled", 1)
    assert model.engine.idle and not model.engine.scheduler.running and blocks.free == blocks.count
    stdout, stderr = Interrupting(), io.StringIO()
    options = ChatOptions(prompt="Who are you?", max_tokens=50)
    assert run_chat(model, options=options, stdin=io.StringIO(), stdout=stdout, stderr=stderr) == 130
    assert "stopped by Ctrl-C" in stderr.getvalue()
    assert model.engine.idle and blocks.free == blocks.count
    answer = model.stream_chat(messages, max_tokens=50, ignore_eos=True)
    for _ in answer:
        break  # the reader has left, and holds on to the answer
    assert model.engine.idle and blocks.free == blocks.count
