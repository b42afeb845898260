"""Tuning gives the losses that TRL with PEFT gives: same model, same first adapter, same conversations in each step.

TRL pads a step's conversations, and adds up gradients of some at a time; we pack them, and add up those of rows.
Where TRL is not installed, what it once computed stands in references/trl.json.
"""

import importlib.util
import json
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ownlm.model.formats.huggingface import read_checkpoint
from ownlm.model.load import build_decoder
from ownlm.model.lora import LoraAdapter
from ownlm.opened.files import read_files
from ownlm.train.config import TuneOptimizerConfig
from ownlm.train.conversations import ConversationRows, Example, pack
from ownlm.train.step import Learner
from starter_model import fetched_smollm2

REFERENCES = Path(__file__).parent / "references"
REFERENCE = json.loads((REFERENCES / "trl.json").read_text(encoding="utf-8"))
NOT_INSTALLED = "announced: trl and peft are not installed; references/trl.json stands for them"


def maker() -> Any:
    spec = importlib.util.spec_from_file_location("make_trl", REFERENCES / "make_trl.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    # A dataclass looks its module up.
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


MAKER = maker()
installed = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("trl", "peft")), reason=NOT_INSTALLED
)


def our_losses(job: Any, *, context: int, micro_rows: int) -> list[float]:
    model = build_decoder(read_checkpoint(Path(job.model)))
    adapter = None if job.adapter is None else LoraAdapter.load(Path(job.adapter), model)
    if adapter is not None:
        model.pack()
    config = TuneOptimizerConfig(
        learning_rate=job.learning_rate, embedding_learning_rate=job.learning_rate, weight_decay=job.weight_decay
    )
    learner = Learner.of(model, config, trained=adapter, micro_rows=micro_rows, compact=True)
    examples = [
        Example(ids=np.array(ids, dtype=np.int64), trained=np.array(trained)) for ids, trained in job.conversations
    ]
    losses = []
    for first in range(0, len(examples), job.a_step):
        step = examples[first : first + job.a_step]
        result = learner.step(packed(step, context))
        assert result.targets == sum(int(example.trained[1:].sum()) for example in step)
        losses.append(result.loss)
    return losses


def packed(examples: list[Example], context: int) -> Any:
    """All of them, in as few rows as they fit into."""
    rows = ConversationRows(examples, context=context, seed=0)
    order = np.random.default_rng((0, 0)).permutation(len(examples))
    return rows.batch(0, len(pack([len(example.ids) for example in examples], order, context + 1)))


def assert_same(ours: list[float], theirs: list[float]) -> None:
    assert len(ours) == len(theirs) == MAKER.STEPS
    # They learn: losses that stood still would agree, whatever the gradients.
    assert np.mean(theirs[-5:]) < np.mean(theirs[:5]) - 0.1
    assert np.abs(np.array(ours) - theirs).max() < 1e-3, (ours, theirs)


def live(job: Any, folder: Path) -> list[float]:
    """In a process of its own, whose warnings are no concern of ours."""
    (folder / "job.json").write_text(json.dumps(asdict(job)), encoding="utf-8")
    command = [sys.executable, MAKER.__file__, str(folder / "job.json")]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "HF_HUB_OFFLINE": "1"})
    assert done.returncode == 0, done.stderr
    losses: list[float] = json.loads(done.stdout.splitlines()[-1])
    return losses


def test_the_reference_has_every_case() -> None:
    assert REFERENCE["losses"].keys() == MAKER.CASES.keys()


@pytest.mark.parametrize("micro_rows", [1, 0])
@pytest.mark.parametrize("case", MAKER.CASES)
def test_losses_are_those_that_trl_had(tmp_path: Path, case: str, micro_rows: int) -> None:
    ours = our_losses(MAKER.job(case, tmp_path), context=63, micro_rows=micro_rows)
    assert_same(ours, REFERENCE["losses"][case])


@installed
@pytest.mark.peers
@pytest.mark.parametrize("case", MAKER.CASES)
def test_trl_still_has_these_losses(tmp_path: Path, case: str) -> None:
    assert_same(live(MAKER.job(case, tmp_path), tmp_path), REFERENCE["losses"][case])


@installed
@pytest.mark.peers
def test_smollm2(tmp_path: Path) -> None:
    model = tmp_path / "model"
    fetched_smollm2().save(model)
    template = read_files(model).template
    assert template is not None
    conversations = []
    for number in range(2 * MAKER.STEPS):
        sums = [(number + 3, 7), (number * number, 19)][: 1 + number % 2]
        turns = [(f"What is {one} + {other}?", f"Easy: {one} + {other} makes {one + other}.") for one, other in sums]
        messages = [
            {"role": role, "content": content}
            for turn in turns
            for role, content in zip(("user", "assistant"), turn, strict=True)
        ]
        rendered = template.render(messages)
        conversations.append((list(rendered.ids), list(rendered.trained)))
    job = MAKER.Job(
        model=str(model),
        adapter=MAKER.new_adapter(model, 16, tmp_path),
        conversations=conversations,
        a_step=2,
        accumulation=2,
        learning_rate=2e-4,
        weight_decay=0.0,
    )
    assert_same(our_losses(job, context=127, micro_rows=1), live(job, tmp_path))
