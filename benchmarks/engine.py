"""The engine's speed, beside llama.cpp's and transformers': prompts, one stream, many, shared prefixes, prompt lookup.

The model is a GGUF file, such as SmolLM2-135M-Instruct.Q4_1.gguf (`--file`; without one a model of its shape with
random weights). llama.cpp reads that file, transformers the same weights in float32. Every round takes each side once,
in turn.

    prefill   512 tokens of text to the first new token, nothing cached
    decode    128 tokens after a prompt of 32, one stream
    streams   16 prompts of 128 tokens, 128 new tokens each, together
    prefix    a prompt of 1,000 tokens and 20 others, twice, the last 20 differing: the second's time to its first token
    lookup    "rewrite this text", answered by the text itself: with prompt lookup and without
    choices   8 contexts of 64 tokens with 4 continuations of 24: read once and scored, or each as a prompt of its own
"""

import sys
import tempfile
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any

import torch
from _common import Target, finish, has_fast_bfloat16, parser, python_text, set_threads, spread, table
from _random_model import random_file

from ownlm.engine import Engine, EngineConfig, Request, Sampling, log_likelihoods
from ownlm.engine.speculate import PromptLookup
from ownlm.opened import Model, load

TARGETS: dict[str, Target] = {
    "prefill_over_llama_cpp": (">=", 3.0),
    "prefill_over_transformers": (">=", 1.8),
    "decode_over_llama_cpp": (">=", 0.6),
    "decode_over_transformers": (">=", 1.5),
    "streams_over_one_stream": (">=", 4.0),
    "prefix_second_over_first": ("<=", 0.15),
    "lookup_over_plain": (">=", 1.5),
    "choices_over_prompts": (">=", 1.5),
}


def main() -> None:
    options = parser(__doc__ or "")
    options.add_argument("--file", type=Path, help="a GGUF file; else one with random weights is made")
    options.add_argument("--rounds", type=int, default=5, help="how often each side runs, in turn (default 5)")
    options.add_argument("--peers", type=Path, help="a folder with further packages, such as llama_cpp")
    chosen = options.parse_args()
    if chosen.peers:
        sys.path.append(str(chosen.peers))
    machine = set_threads(chosen.threads)
    sizes = Sizes(quick=chosen.quick)
    notes: list[str] = []
    sides: dict[str, dict[str, Callable[[], float]]] = {}
    dtypes = ["float32", "bfloat16"] if has_fast_bfloat16(machine) else ["float32"]
    if len(dtypes) == 1:
        notes.append("bfloat16 is emulated here and not run")
    with tempfile.TemporaryDirectory() as folder:
        file = chosen.file or random_file(Path(folder) / "random.gguf", small=chosen.quick)
        notes.append(f"{file.name}, {chosen.threads} threads")
        for dtype in dtypes:
            sides[f"ours {dtype}"] = Ours(load(file, device="cpu", dtype=dtype), sizes).rows()
        sides["ours blocks"] = Ours(load(file, device="cpu", quantize="blocks"), sizes).rows()
        notes.append(f"ours blocks: {load(file, device='cpu', quantize='blocks').arithmetic}")
        if find_spec("transformers"):
            sides["transformers float32"] = transformers_rows(file, Path(folder), sizes)
        if find_spec("llama_cpp"):
            sides["llama.cpp"] = llama_cpp_rows(file, sizes, chosen.threads)
        seconds = measure(sides, 1 if chosen.quick else chosen.rounds)
    notes += [f"{name} is not installed" for name in ("transformers", "llama_cpp") if not find_spec(name)]
    report(seconds, sizes)
    finish(
        figures_of(seconds, sizes),
        TARGETS,
        machine=machine,
        packages=["transformers", "llama_cpp_python"],
        notes=notes,
    )


class Sizes:
    """How many tokens each row takes, and the text that they are taken from."""

    def __init__(self, *, quick: bool) -> None:
        self.prefill, self.prompt, self.new = (64, 8, 8) if quick else (512, 32, 128)
        self.streams, self.stream_prompt, self.stream_new = (4, 16, 8) if quick else (16, 128, 128)
        self.prefix, self.tail = (64, 4) if quick else (1000, 20)
        self.copied = 24 if quick else 200
        self.contexts, self.context, self.choice = (2, 16, 4) if quick else (8, 64, 24)
        self.text = "".join(python_text(200_000))


class Ours:
    def __init__(self, model: Model, sizes: Sizes) -> None:
        self.model, self.sizes = model, sizes
        self.ids = model.tokenizer.encode(sizes.text)

    def rows(self) -> dict[str, Callable[[], float]]:
        return {
            "prefill": self.prefill,
            "decode": self.decode,
            "streams": self.streams,
            "prefix first": lambda: self.prefix()[0],
            "prefix second": lambda: self.prefix()[1],
            "plain copy": lambda: self.copy(lookup=False),
            "lookup copy": lambda: self.copy(lookup=True),
            "choices": lambda: _seconds(lambda: log_likelihoods(self.model.decoder, self.pairs())),
            "choice prompts": self.choice_prompts,
        }

    def engine(self) -> Engine:
        return Engine(self.model.decoder, self.model.tokenizer, self.model.end_ids, EngineConfig(cache_tokens=8192))

    def prefill(self) -> float:
        engine = self.engine()
        engine.add(_request(self.ids[: self.sizes.prefill], 1))
        return _seconds(engine.step)

    def decode(self) -> float:
        engine = self.engine()
        engine.add(_request(self.ids[: self.sizes.prompt], 1 + self.sizes.new))
        engine.step()
        return _seconds(lambda: _drain(engine))

    def streams(self) -> float:
        engine, size = self.engine(), self.sizes.stream_prompt
        for stream in range(self.sizes.streams):
            engine.add(_request(self.ids[stream * size : (stream + 1) * size], self.sizes.stream_new))
        return _seconds(lambda: _drain(engine))

    def prefix(self) -> tuple[float, float]:
        engine, sizes = self.engine(), self.sizes
        times = []
        for which in range(2):
            place = sizes.prefix + which * sizes.tail
            engine.add(_request(self.ids[: sizes.prefix] + self.ids[place : place + sizes.tail], 1))
            times.append(_seconds(lambda: _drain(engine)))
        return times[0], times[1]

    def pairs(self) -> list[tuple[list[int], list[int]]]:
        sizes, text = self.sizes, iter(self.ids)
        contexts = [[next(text) for _ in range(sizes.context)] for _ in range(sizes.contexts)]
        return [(context, [next(text) for _ in range(sizes.choice)]) for context in contexts for _ in range(4)]

    def choice_prompts(self) -> float:
        engine, sampling = self.engine(), Sampling(max_tokens=1, prompt_logprobs=True)
        for context, choice in self.pairs():
            engine.add(Request(prompt=context + choice, sampling=sampling))
        return _seconds(lambda: _drain(engine))

    def copy(self, *, lookup: bool) -> float:
        """The answer is forced to be the text, whatever the model would say: how well it copies is not asked here."""
        engine, text = self.engine(), self.ids[: self.sizes.copied]
        engine.speculator = PromptLookup() if lookup else None
        said = self.model.tokenizer.encode("Rewrite this text.\n\n") + text + self.model.tokenizer.encode("\n\n")
        runner, run = engine.runner, engine.runner.run

        def forced(turns: Any) -> Any:
            scores = run(turns)
            for turn, logits in zip(turns, scores, strict=True):
                if logits is not None:
                    drawn = len(turn.sequence.tokens) - len(said)
                    with torch.inference_mode():
                        for row in range(len(logits)):
                            logits[row, (text + [0] * 32)[drawn + row]] = 1e4
            return scores

        runner.run = forced  # type: ignore[method-assign]
        engine.add(_request(said, len(text)))
        engine.step()
        return _seconds(lambda: _drain(engine))


def transformers_rows(file: Path, folder: Path, sizes: Sizes) -> dict[str, Callable[[], float]]:
    """Through a folder that we write: its own reading of a GGUF file takes a minute."""
    from transformers import AutoModelForCausalLM

    opened = load(file, device="cpu")
    opened.save(folder / "model")
    ids = opened.tokenizer.encode(sizes.text)
    del opened
    peer = AutoModelForCausalLM.from_pretrained(folder / "model", dtype=torch.float32).eval()
    # It shall not end; a list of no ids it does not take.
    peer.generation_config.eos_token_id = None

    def generate(prompt: list[int], new: int) -> None:
        with torch.inference_mode():
            peer.generate(
                torch.tensor([prompt]),
                attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
                max_new_tokens=new,
                min_new_tokens=new,
                do_sample=False,
            )

    def decode() -> float:
        whole = _seconds(lambda: generate(ids[: sizes.prompt], 1 + sizes.new))
        return whole - _seconds(lambda: generate(ids[: sizes.prompt], 1))

    return {"prefill": lambda: _seconds(lambda: generate(ids[: sizes.prefill], 1)), "decode": decode}


def llama_cpp_rows(file: Path, sizes: Sizes, threads: int) -> dict[str, Callable[[], float]]:
    from llama_cpp import Llama

    peer = Llama(str(file), n_ctx=2048, n_threads=threads, n_threads_batch=threads, n_batch=512, verbose=False)
    ids = peer.tokenize(sizes.text[:20_000].encode(), add_bos=False)

    def prefill() -> float:
        peer.reset()
        return _seconds(lambda: peer.eval(ids[: sizes.prefill]))

    def decode() -> float:
        peer.reset()
        peer.eval(ids[: sizes.prompt])

        def tokens() -> None:
            for _ in range(sizes.new):
                peer.eval([peer.sample(temp=0.0)])

        return _seconds(tokens)

    return {"prefill": prefill, "decode": decode}


def measure(sides: dict[str, dict[str, Callable[[], float]]], rounds: int) -> dict[tuple[str, str], list[float]]:
    """Seconds of every row of every side; within a row the sides take turns."""
    seconds: dict[tuple[str, str], list[float]] = {}
    for row in dict.fromkeys(row for rows in sides.values() for row in rows):
        for round in range(-1, rounds):
            for side, rows in sides.items():
                if row in rows:
                    taken = rows[row]()
                    # The first round only warms up.
                    if round >= 0:
                        seconds.setdefault((side, row), []).append(taken)
    return seconds


def report(seconds: dict[tuple[str, str], list[float]], sizes: Sizes) -> None:
    tokens = {
        "prefill": sizes.prefill,
        "decode": sizes.new,
        "streams": sizes.streams * sizes.stream_new,
        "plain copy": sizes.copied,
        "lookup copy": sizes.copied,
    }
    lines = []
    for (side, row), taken in seconds.items():
        rate = spread([tokens[row] / each for each in taken], 1) if row in tokens else ""
        lines.append((f"{row}, {side}", spread(taken, 3), rate))
    table(["", "seconds", "tokens/s"], sorted(lines))


def figures_of(seconds: dict[tuple[str, str], list[float]], sizes: Sizes) -> dict[str, float]:
    times = {key: median(taken) for key, taken in seconds.items()}
    ours = {side for side, _ in times if side.startswith("ours")}
    best = {row: min((times[side, row], side) for side in ours) for row in ("prefill", "decode", "streams")}
    figures = {
        "prefill_tokens_per_second": sizes.prefill / best["prefill"][0],
        "decode_tokens_per_second": sizes.new / best["decode"][0],
        "streams_tokens_per_second": sizes.streams * sizes.stream_new / best["streams"][0],
    }
    if ("llama.cpp", "prefill") in times:
        figures["prefill_over_llama_cpp"] = times["llama.cpp", "prefill"] / best["prefill"][0]
        figures["decode_over_llama_cpp"] = times["llama.cpp", "decode"] / times["ours blocks", "decode"]
    if ("transformers float32", "prefill") in times:
        figures["prefill_over_transformers"] = times["transformers float32", "prefill"] / best["prefill"][0]
        figures["decode_over_transformers"] = times["transformers float32", "decode"] / best["decode"][0]
    # Like with like: the streams against one stream of the same arithmetic, in tokens a second.
    side = best["decode"][1]
    figures["streams_over_one_stream"] = (
        sizes.streams * sizes.stream_new / times[side, "streams"] * times[side, "decode"] / sizes.new
    )
    figures["prefix_second_over_first"] = times[side, "prefix second"] / times[side, "prefix first"]
    figures["choices_over_prompts"] = times[side, "choice prompts"] / times[side, "choices"]
    figures["lookup_over_plain"] = times[side, "plain copy"] / times[side, "lookup copy"]
    return figures


def _request(prompt: list[int], new: int) -> Request:
    return Request(prompt=prompt, sampling=Sampling(max_tokens=new, temperature=0, ignore_eos=True))


def _drain(engine: Engine) -> None:
    while not engine.idle:
        engine.step()


def _seconds(work: Callable[[], Any]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
