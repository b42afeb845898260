"""Write smollm2.json: what llama.cpp says from SmolLM2's files, the F16 one that we write and the one that is fetched.

    ownlm starter get smollm2 --yes
    python tests/parity/references/make_smollm2.py

Needs llama-cpp-python. Prompts are ids by the model's own template, so that the test holds these too.
"""

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

import ownlm
from ownlm.model.locate import locate
from ownlm.opened import convert

HERE = Path(__file__).parent
QUESTIONS = (
    "What is the capital of France?",
    "Write a haiku about rain.",
    "Explain photosynthesis to a child.",
    "def fibonacci(n):",
    "List three fruits.",
    "Translate 'good morning' into Spanish.",
    "Why is the sky blue?",
    "Give me a recipe for pancakes.",
    "What is 12 times 7?",
    "Tell me a short story about a dragon.",
)
TOKENS = 64
TEXT = (
    "The old lighthouse keeper climbed the stairs every evening, counting each of the two hundred and twelve steps. "
    "He had done so for thirty years, and he had never once arrived at another number. On the night of the great "
    "storm, however, he counted two hundred and thirteen.\n\ndef area(width, height):\n    return width * height\n\n"
    "Water boils at 100 degrees Celsius at sea level, but at the top of Mount Everest it boils at about 71 degrees. "
    "The reason is the lower air pressure. Paris is the capital of France, Rome of Italy and Madrid of Spain."
)


def llama(path: Path, **settings: Any) -> Any:
    from llama_cpp import Llama

    return Llama(str(path), n_ctx=1024, n_threads=2, verbose=False, **settings)


def greedy(path: Path, prompts: list[list[int]]) -> list[list[int]]:
    """TOKENS ids after each prompt, ends included: an answer that ended would compare little."""
    model, answers = llama(path), []
    for prompt in prompts:
        model.reset()
        drawn = model.generate(prompt, temp=0.0, top_k=1, repeat_penalty=1.0)
        answers.append([int(next(drawn)) for _ in range(TOKENS)])
    return answers


def likeliest(path: Path, ids: list[int]) -> list[int]:
    """The likeliest next token at every place of a text."""
    model = llama(path, logits_all=True)
    model.eval(ids)
    return [int(token) for token in np.asarray(model.scores[: len(ids)]).argmax(-1)]


def main() -> None:
    model = ownlm.load("smollm2", dtype="float32")
    prompts = [model.chat_prompt([{"role": "user", "content": question}]) for question in QUESTIONS]
    # 123 tokens of many kinds, and enough after them for a share to mean something.
    licence = (HERE.parents[2] / "LICENSE").read_text(encoding="utf-8")
    ids = model.tokenizer.encode(f"{TEXT}\n\n{licence}")[:1000]
    with tempfile.TemporaryDirectory() as folder:
        written = convert("smollm2", Path(folder) / "f16.gguf", quantization="F16").path
        answers = greedy(written, prompts)
    from llama_cpp import __version__

    reference = {
        "llama_cpp_python": __version__,
        "prompts": prompts,
        "greedy_f16": answers,
        "text_ids": ids,
        "likeliest_as_fetched": likeliest(locate("smollm2"), ids),
    }
    (HERE / "smollm2.json").write_text(json.dumps(reference) + "\n", encoding="utf-8")
    sys.stdout.write("written\n")


if __name__ == "__main__":
    main()
