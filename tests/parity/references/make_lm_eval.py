"""Write lm_eval.json: how likely lm-eval's own model class finds each choice of HellaSwag, ARC-easy and PIQA.

    ownlm convert smollm2 FOLDER
    python tests/parity/references/make_lm_eval.py FOLDER DATA

Needs lm-eval and transformers. DATA holds eval-hellaswag and eval-llm-foundry. The first ITEMS of each set, in float32;
prompts and choices are those of ownlm's readers, cutting into tokens and scoring are lm-eval's. Its softmax is asked
for in float64: in float32 its sum over 49,152 tokens is wrong by 1e-5 a token. Only numbers are written.
"""

import json
import sys
from pathlib import Path
from typing import Any

from ownlm.evaluation.read_task import read_task

HERE = Path(__file__).parent
ITEMS, CHAT_ITEMS = 100, 10
SETS = {
    "hellaswag": "eval-hellaswag/hellaswag_val.jsonl.gz",
    "arc-easy": "eval-llm-foundry/world_knowledge/arc_easy.jsonl",
    "piqa": "eval-llm-foundry/commonsense_reasoning/piqa.jsonl",
}


def model_of(folder: str) -> Any:
    from lm_eval.models.huggingface import HFLM

    return HFLM(pretrained=folder, dtype="float32", device="cpu", batch_size=16, softmax_dtype="float64")


def scores(model: Any, items: Any, *, chat: bool) -> list[list[float]]:
    """As lm-eval's ConfigurableTask asks them: a space before a choice, none in a chat."""
    from lm_eval.api.instance import Instance

    requests = []
    for item in items:
        text = model.apply_chat_template(list(item.prompt.messages)) if chat else item.prompt.text
        for choice in item.choices:
            arguments = (text, choice if chat else f" {choice}")
            requests.append(Instance(request_type="loglikelihood", doc={}, arguments=arguments, idx=0))
    found = iter(model.loglikelihood(requests, disable_tqdm=True))
    return [[round(next(found)[0], 6) for _ in item.choices] for item in items]


def main() -> None:
    import lm_eval
    import torch
    import transformers

    folder, data = sys.argv[1:3]
    model = model_of(folder)
    sets = {}
    for name, place in SETS.items():
        items = read_task(f"{name}={Path(data) / place}", limit=ITEMS).items
        sets[name] = {
            "text": scores(model, items, chat=False),
            "chat": scores(model, items[:CHAT_ITEMS], chat=True),
        }
    versions = {"lm_eval": lm_eval.__version__, "transformers": transformers.__version__, "torch": torch.__version__}
    (HERE / "lm_eval.json").write_text(json.dumps({"versions": versions, "sets": sets}) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
