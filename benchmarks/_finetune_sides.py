"""One side of finetune_vs_trl.py, in a process of its own: JOB.json in, seconds and peak memory out.

    python benchmarks/_finetune_sides.py SIDE JOB.json  ──▶  {"seconds": ..., "bytes": ..., "losses": [...]}

A job's first step is a warm-up and is not timed. Both sides read the same conversations with every step; ours packs
those of all timed steps into rows of `context`, as `ownlm finetune` does.
"""

import json
import resource
import sys
import time
from pathlib import Path
from typing import Any

Example = tuple[list[int], list[bool]]


def ours(job: dict[str, Any]) -> dict[str, Any]:
    import numpy as np

    from ownlm.machine import keep_large_blocks_apart
    from ownlm.model.locate import locate
    from ownlm.model.lora import LoraAdapter, LoraConfig
    from ownlm.opened.build import build
    from ownlm.opened.files import read_files
    from ownlm.train.config import TuneOptimizerConfig
    from ownlm.train.conversations import ConversationRows, pack
    from ownlm.train.conversations import Example as Row
    from ownlm.train.step import Learner

    # As the training loop does.
    keep_large_blocks_apart()
    model = build(read_files(locate(job["model"]))).pack()
    adapter = LoraAdapter.new(model, LoraConfig(rank=job["rank"], alpha=2 * job["rank"]))
    config = TuneOptimizerConfig(learning_rate=job["learning_rate"])
    learner = Learner.of(model, config, trained=adapter, micro_rows=1, compact=True)

    def rows(examples: list[Example]) -> tuple[ConversationRows, int]:
        given = [Row(ids=np.array(ids), trained=np.array(trained)) for ids, trained in examples]
        order = np.random.default_rng((0, 0)).permutation(len(given))
        count = len(pack([len(row.ids) for row in given], order, job["context"] + 1))
        return ConversationRows(given, context=job["context"], seed=0), count

    warm, count = rows(job["conversations"][: job["a_step"]])
    losses = [learner.step(warm.batch(0, count)).loss]
    timed, count = rows(job["conversations"][job["a_step"] :])
    a_step = -(-count // job["steps"])
    began = time.perf_counter()
    losses += [learner.step(timed.batch(first, min(a_step, count - first))).loss for first in range(0, count, a_step)]
    return {"seconds": time.perf_counter() - began, "losses": losses}


def trl(job: dict[str, Any], *, at_once: int, checkpointing: bool) -> dict[str, Any]:
    import tempfile

    import torch
    from datasets import Dataset
    from peft import LoraConfig
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast, TrainerCallback
    from trl import SFTConfig, SFTTrainer

    class Clock(TrainerCallback):  # type: ignore[misc]
        began = ended = 0.0

        def on_step_end(self, *told: Any, **more: Any) -> None:
            self.ended = time.perf_counter()
            self.began = self.began or self.ended

    clock = Clock()
    model = AutoModelForCausalLM.from_pretrained(job["model"], dtype=torch.float32)
    # The ids are given; TRL asks for a tokenizer's special tokens none the less.
    named = Tokenizer(WordLevel({"pad": 0, "end": 1}, unk_token="end"))
    rows = [
        {"input_ids": ids, "labels": [id if wanted else -100 for id, wanted in zip(ids, trained, strict=True)]}
        for ids, trained in job["conversations"]
    ]
    with tempfile.TemporaryDirectory() as folder:
        arguments = SFTConfig(
            output_dir=folder,
            per_device_train_batch_size=at_once,
            gradient_accumulation_steps=job["a_step"] // at_once,
            max_steps=job["steps"] + 1,
            learning_rate=job["learning_rate"],
            lr_scheduler_type="constant",
            train_sampling_strategy="sequential",
            max_length=job["context"],
            bf16=job["bfloat16"],
            gradient_checkpointing=checkpointing,
            logging_steps=1,
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
            use_cpu=True,
        )
        trainer = SFTTrainer(
            model,
            args=arguments,
            train_dataset=Dataset.from_list(rows),
            processing_class=PreTrainedTokenizerFast(tokenizer_object=named, pad_token="pad", eos_token="end"),
            peft_config=LoraConfig(r=job["rank"], lora_alpha=2 * job["rank"], target_modules="all-linear"),
            callbacks=[clock],
        )
        trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    return {"seconds": clock.ended - clock.began, "losses": losses}


def peak_bytes() -> int:
    """Of this process alone: what getrusage knows begins with the parent's."""
    status = Path("/proc/self/status")
    if not status.is_file():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    lines = status.read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


def main() -> None:
    side, job = sys.argv[1], json.loads(Path(sys.argv[2]).read_text(encoding="utf-8"))
    sys.path += job["peers"]
    import torch

    torch.set_num_threads(job["threads"])
    found = {
        "ours": lambda: ours(job),
        "trl": lambda: trl(job, at_once=job["a_step"], checkpointing=True),
        "trl_at_its_best": lambda: trl(job, at_once=1, checkpointing=False),
    }[side]()
    print(json.dumps({**found, "bytes": peak_bytes()}))


if __name__ == "__main__":
    main()
