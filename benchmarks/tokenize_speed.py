"""Tokenizing speed: megabytes a second of encode_batch on Python's own source, against `tokenizers` itself.

One vocabulary, trained here on a part of the text; every way must give the same ids, or the benchmark stops.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from statistics import median

from _common import Target, finish, parser, python_text, set_threads, spread, table
from tokenizers import Tokenizer as Pipeline

from ownlm.tokenizer import train_tokenizer

VOCAB_SIZE = 4096
TRAINING_BYTES = 3_000_000

Encode = Callable[[Sequence[str]], Sequence[Iterable[int]]]


def main() -> None:
    options = parser(__doc__ or "")
    options.add_argument("--megabytes", type=float, default=12.0, help="text to encode (default 12)")
    options.add_argument("--rounds", type=int, default=5, help="how often each encodes it, in turn (default 5)")
    chosen = options.parse_args()
    machine = set_threads(chosen.threads)
    most_bytes = 200_000 if chosen.quick else int(chosen.megabytes * 1e6)
    texts = python_text(most_bytes)
    size = sum(len(text.encode()) for text in texts)
    started = time.perf_counter()
    training = python_text(min(TRAINING_BYTES, most_bytes))
    tokenizer = train_tokenizer(training, vocab_size=VOCAB_SIZE)
    seconds = time.perf_counter() - started
    trained_bytes = sum(len(text.encode()) for text in training)
    print(f"trained {tokenizer.vocab_size} tokens on {trained_bytes / 1e6:.1f} MB in {seconds:.1f} s")

    pipeline = Pipeline.from_str(tokenizer.to_json())
    ways: dict[str, Encode] = {
        "ownlm encode_batch": tokenizer.encode_batch,
        "tokenizers encode_batch_fast": lambda some: [
            encoding.ids for encoding in pipeline.encode_batch_fast(some, add_special_tokens=False)
        ],
        "tokenizers encode_batch": lambda some: [
            encoding.ids for encoding in pipeline.encode_batch(some, add_special_tokens=False)
        ],
    }
    rates: dict[str, list[float]] = {name: [] for name in ways}
    expected = [list(map(int, ids)) for ids in tokenizer.encode_batch(texts)]
    for _ in range(1 if chosen.quick else chosen.rounds):
        for name, encode in ways.items():
            started = time.perf_counter()
            ids = encode(texts)
            rates[name].append(size / 1e6 / (time.perf_counter() - started))
            same = all(list(mine) == theirs for mine, theirs in zip(ids, expected, strict=True))
            assert same, f"{name} gives other ids"
    tokens = sum(map(len, expected))
    print(f"{len(texts)} files, {size / 1e6:.1f} MB, {tokens:,} tokens, {size / tokens:.2f} bytes a token\n")
    table(["way", "MB a second"], [[name, spread(values, 2)] for name, values in rates.items()])

    figures = {f"{name.replace(' ', '_')}_mb_per_second": median(values) for name, values in rates.items()}
    ours = rates["ownlm encode_batch"]
    for name in list(ways)[1:]:
        figures[f"over_{name.replace(' ', '_')}"] = median(a / b for a, b in zip(ours, rates[name], strict=True))
    targets: dict[str, Target] = {"ownlm_encode_batch_mb_per_second": (">=", 10.0)}
    finish(figures, targets, machine=machine, packages=["tokenizers", "tiktoken"])


if __name__ == "__main__":
    main()
