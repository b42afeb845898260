"""Log-likelihoods of choices against lm-eval's own model class and transformers, on a real model, item by item.

references/lm_eval.json was made by make_lm_eval.py; with lm-eval installed, some items are asked of it live too. The
starter must have been fetched: `ownlm starter get smollm2 --yes`, as `make test-peers` does.
"""

import json
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from ownlm.engine.score import token_log_likelihoods
from ownlm.evaluation.read_task import read_task
from ownlm.evaluation.run import ask
from ownlm.evaluation.subject import ModelSubject
from ownlm.evaluation.tasks import Choices, Task
from ownlm.opened import Model, convert
from starter_model import fetched_smollm2

REFERENCES = Path(__file__).parent / "references"
REFERENCE = json.loads((REFERENCES / "lm_eval.json").read_text(encoding="utf-8"))["sets"]
# In nats, of the sum over a choice's tokens.
NEAR = 1e-4

pytestmark = pytest.mark.peers

sys.path.insert(0, str(REFERENCES))


@pytest.fixture(scope="module")
def smollm2() -> Model:
    return fetched_smollm2()


def first_items(shared_data: Path, name: str, count: int) -> Task:
    from make_lm_eval import SETS

    return read_task(f"{name}={shared_data / SETS[name]}", limit=count)


def scores(model: Model, task: Task, *, chat: bool) -> list[list[float]]:
    """As lm-eval counts: the line break that ends an answer's header is a space before the answer to it."""
    found = [one.record["nats"] for one in ask(task, ModelSubject(model, chat=chat))]
    if not chat:
        return found
    prompts = [model.chat_prompt(item.prompt.messages) for item in task.items]
    assert all(model.tokenizer.decode(prompt[-1:]) == "\n" for prompt in prompts)
    breaks = token_log_likelihoods(model.decoder, [(prompt[:-1], prompt[-1:]) for prompt in prompts])
    return [[nats + before for nats in item] for item, (before,) in zip(found, breaks, strict=True)]


def assert_near(ours: list[list[float]], theirs: list[list[float]]) -> None:
    assert len(ours) == len(theirs)
    for place, (mine, other) in enumerate(zip(ours, theirs, strict=True)):
        assert mine == pytest.approx(other, abs=NEAR), f"item {place + 1}"


@pytest.mark.parametrize("name", REFERENCE)
def test_every_item_has_lm_evals_scores(smollm2: Model, shared_data: Path, name: str) -> None:
    theirs = REFERENCE[name]
    task = first_items(shared_data, name, len(theirs["text"]))
    assert_near(scores(smollm2, task, chat=False), theirs["text"])
    in_chat = first_items(shared_data, name, len(theirs["chat"]))
    assert_near(scores(smollm2, in_chat, chat=True), theirs["chat"])


def test_lm_eval_says_so_now(smollm2: Model, shared_data: Path, tmp_path: Path) -> None:
    if find_spec("lm_eval") is None:
        pytest.skip("announced: lm-eval is not installed; pip install 'lm-eval[hf]'")
    import make_lm_eval

    convert("smollm2", tmp_path / "folder")
    peer: Any = make_lm_eval.model_of(str(tmp_path / "folder"))
    for name in REFERENCE:
        task = first_items(shared_data, name, 5)
        assert isinstance(task, Choices)
        for chat in (False, True):
            assert_near(scores(smollm2, task, chat=chat), make_lm_eval.scores(peer, task.items, chat=chat))


def test_transformers_finds_tokens_as_likely(smollm2: Model, shared_data: Path) -> None:
    folder = shared_data / "model-reference-logits"
    theirs = json.loads((folder / "smollm2-135m-instruct-q4_1.json").read_text(encoding="utf-8"))
    pairs = [(case["ids"][:1], case["ids"][1:]) for case in theirs["cases"]]
    for nats, case in zip(token_log_likelihoods(smollm2.decoder, pairs), theirs["cases"], strict=True):
        assert nats == pytest.approx(case["logprobs_of_prompt_tokens"], abs=NEAR)
    text = (shared_data / "pretrain-wikitext2" / "valid.txt").read_text(encoding="utf-8")[:6000]
    ids = smollm2.tokenizer.encode(text)[:512]
    (nats,) = token_log_likelihoods(smollm2.decoder, [(ids[:1], ids[1:])])
    assert -sum(nats) / len(nats) == pytest.approx(theirs["mean_nll"], abs=1e-4)
