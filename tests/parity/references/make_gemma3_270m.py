"""Write gemma3_270m.json: what transformers computes from Gemma 3's GGUF file, at places within its window and past it.

    OWNLM_TEST_GGUF=FOLDER python tests/parity/references/make_gemma3_270m.py

FOLDER holds gemma-3-270m.Q4_K_M.gguf. transformers takes a minute to open it.
"""

import json
import os
import sys
from pathlib import Path

import torch

from ownlm.artefact import file_sha256
from ownlm.opened import read_files

HERE = Path(__file__).parent
NAME = "gemma-3-270m.Q4_K_M.gguf"
# Its sliding layers see 512 tokens.
TOKENS, PLACES = 600, (0, 1, 7, 63, 255, 511, 512, 520, 599)
LIKELIEST = 5


def main() -> None:
    from transformers import AutoModelForCausalLM, __version__

    path = Path(os.environ["OWNLM_TEST_GGUF"]) / NAME
    licence = (HERE.parents[2] / "LICENSE").read_text(encoding="utf-8")
    ids = read_files(path).tokenizer.prompt_ids(licence)[:TOKENS]
    model = AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=NAME, dtype=torch.float32).eval()
    with torch.inference_mode():
        logits_TV = model(torch.tensor([ids]), logits_to_keep=torch.tensor(PLACES)).logits[0]
    top = logits_TV.topk(LIKELIEST)
    reference = {
        "transformers": __version__,
        "sha256": file_sha256(path),
        "ids": ids,
        "places": PLACES,
        "likeliest": top.indices.tolist(),
        "logits": [[round(value, 4) for value in row] for row in top.values.tolist()],
    }
    (HERE / "gemma3_270m.json").write_text(json.dumps(reference) + "\n", encoding="utf-8")
    sys.stdout.write("written\n")


if __name__ == "__main__":
    main()
