"""Fine-tuning refuses at its start what would fail in its middle."""

from dataclasses import replace
from pathlib import Path

import pytest

from ownlm.errors import OwnlmError
from ownlm.train import finetune
from tiny_journey import chat_recipe, tune_config


def test_a_question_longer_than_the_context_is_refused_before_the_first_step(workshop: Path, tmp_path: Path) -> None:
    recipe = chat_recipe(workshop, tmp_path / "chat", train=tune_config(steps=1), ask=("Who?", "word " * 80))
    with pytest.raises(OwnlmError, match=r"^ask: 'word word .*\.\.\.' has \d+ tokens.*context is 64; shorten it$"):
        finetune(recipe)
    assert not (tmp_path / "chat" / "events.jsonl").exists()
    # Nothing has begun, so the mended recipe may have the same folder.
    finetune(replace(recipe, ask=("Who?",)))
