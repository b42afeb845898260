"""Write trl.json: the losses that TRL (with PEFT) has while it tunes a tiny model.

    python tests/parity/references/make_trl.py             every case, into trl.json
    python tests/parity/references/make_trl.py JOB.json    one job that a test wrote; its losses are the last line

Needs trl, peft and transformers. A job is all that must be equal on both sides: the model's folder, the adapter that
training begins with (the whole model is trained where there is none), conversations in order, rates.
"""

import json
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).parent
STEPS, A_STEP, LONGEST = 20, 8, 30
# Case: (folder in families/, rank of the adapter, gradient accumulation of TRL)
CASES: dict[str, tuple[str, int | None, int]] = {
    "llama, all weights": ("llama", None, 1),
    "llama, all weights, accumulated": ("llama", None, 4),
    "llama, adapter": ("llama", 16, 1),
    "llama, adapter, accumulated": ("llama", 16, 4),
    "qwen3, adapter": ("qwen3", 4, 2),
    "gemma2, adapter": ("gemma2", 4, 2),
    "gpt2, adapter": ("gpt2", 4, 2),
}


@dataclass(frozen=True, kw_only=True)
class Job:
    """`conversations`: (ids, for each whether it is trained), `a_step` of them a step; `adapter`: a PEFT folder."""

    model: str
    adapter: str | None
    conversations: list[tuple[list[int], list[bool]]]
    a_step: int
    accumulation: int
    learning_rate: float
    weight_decay: float


def job(case: str, folder: Path) -> Job:
    """A case, its adapter written into `folder`."""
    name, rank, accumulation = CASES[case]
    model = HERE / "families" / name
    vocab = json.loads((model / "config.json").read_text(encoding="utf-8"))["vocab_size"]
    return Job(
        model=str(model),
        adapter=None if rank is None else new_adapter(model, rank, folder),
        conversations=counting(STEPS * A_STEP, vocab),
        a_step=A_STEP,
        accumulation=accumulation,
        learning_rate=2e-3 if rank is None else 1e-2,
        weight_decay=0.01,
    )


def new_adapter(model: Path, rank: int, folder: Path) -> str:
    """One of ours that nothing was taught, for every linear layer."""
    from ownlm.model.formats.huggingface import read_checkpoint
    from ownlm.model.load import build_decoder
    from ownlm.model.lora import LoraAdapter
    from ownlm.model.lora_pair import LoraConfig

    decoder = build_decoder(read_checkpoint(model))
    LoraAdapter.new(decoder, LoraConfig(rank=rank, alpha=2 * rank)).save(folder)
    return str(folder)


def counting(count: int, vocab: int) -> list[tuple[list[int], list[bool]]]:
    """Two turns each: noise, then an answer that counts on from it. Lengths differ; nothing depends on a platform."""
    random = np.random.Generator(np.random.PCG64(0))
    found = []
    for _ in range(count):
        ids: list[int] = []
        trained: list[bool] = []
        for _ in range(2):
            noise, answer = (int(random.integers(2, LONGEST // 4)) for _ in range(2))
            ids += random.integers(0, vocab, noise).tolist()
            ids += [(ids[-1] + number + 1) % vocab for number in range(answer)]
            trained += [False] * noise + [True] * answer
        found.append((ids, trained))
    return found


def trl_losses(given: Job) -> list[float]:
    import torch
    from datasets import Dataset
    from peft import PeftModel
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast
    from trl import SFTConfig, SFTTrainer

    config = AutoConfig.from_pretrained(given.model)
    # Ours has none.
    config.update({name: 0.0 for name in vars(config) if name.endswith(("_pdrop", "dropout"))})
    model: Any = AutoModelForCausalLM.from_pretrained(given.model, config=config, dtype=torch.float32)
    if given.adapter is not None:
        model = PeftModel.from_pretrained(model, given.adapter, is_trainable=True)
    # The ids are given; TRL asks for a tokenizer's special tokens none the less.
    named = Tokenizer(WordLevel({"pad": 0, "end": 1}, unk_token="end"))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=named, pad_token="pad", eos_token="end")
    rows = [
        {"input_ids": ids, "labels": [id if wanted else -100 for id, wanted in zip(ids, trained, strict=True)]}
        for ids, trained in given.conversations
    ]
    with tempfile.TemporaryDirectory() as folder:
        arguments = SFTConfig(
            output_dir=folder,
            per_device_train_batch_size=given.a_step // given.accumulation,
            gradient_accumulation_steps=given.accumulation,
            max_steps=len(rows) // given.a_step,
            learning_rate=given.learning_rate,
            weight_decay=given.weight_decay,
            lr_scheduler_type="constant",
            optim="adamw_torch",
            max_grad_norm=1.0,
            train_sampling_strategy="sequential",
            bf16=False,
            gradient_checkpointing=False,
            max_length=None,
            logging_steps=1,
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
            use_cpu=True,
        )
        trainer = SFTTrainer(model, args=arguments, train_dataset=Dataset.from_list(rows), processing_class=tokenizer)
        trainer.train()
        return [float(entry["loss"]) for entry in trainer.state.log_history if "loss" in entry]


def read_job(path: Path) -> Job:
    return Job(**json.loads(path.read_text(encoding="utf-8")))


def main() -> None:
    import torch

    torch.set_num_threads(1)
    if len(sys.argv) > 1:
        print(json.dumps(trl_losses(read_job(Path(sys.argv[1])))))
        return
    import peft
    import trl

    losses = {}
    for case in CASES:
        with tempfile.TemporaryDirectory() as folder:
            losses[case] = [round(loss, 5) for loss in trl_losses(job(case, Path(folder)))]
    reference = {"trl": trl.__version__, "peft": peft.__version__, "losses": losses}
    (HERE / "trl.json").write_text(json.dumps(reference, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
