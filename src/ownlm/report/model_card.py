"""README.md of a model folder: what the model is, how it was made, how good it is, what it cannot do.

In:  the facts of a run (its summary.json, as a dictionary). Out: Markdown with the front matter that
model hubs read. What was not measured is left out; a model's or a text's words are quoted as code.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ownlm.report import words
from ownlm.report.html import KIND_NAMES

LICENCE_NOTE = (
    "The weights are yours. They were made from text under other people's licences (see the corpus); "
    "check these before you hand the weights on."
)


def model_card(
    summary: Mapping[str, Any],
    *,
    name: str = "",
    languages: Sequence[str] = ("en",),
    tags: Sequence[str] = ("ownlm", "text-generation"),
) -> str:
    """The text of README.md for the model that `summary` describes."""
    title = name or str(summary.get("name") or "A language model")
    sections = (_what(summary), _use(), _how(summary), _quality(summary), _limits(summary))
    body = "\n\n".join("\n".join(section) for section in (list(lines) for lines in sections) if section)
    return f"{front_matter(languages, tags)}\n# {plain(title)}\n\n{body}\n"


def front_matter(languages: Sequence[str], tags: Sequence[str]) -> str:
    # JSON strings are YAML strings, so nothing in a name or tag can break out.
    lines = ["---", "library_name: transformers", "pipeline_tag: text-generation"]
    lines += ["license: other", f"license_name: {json.dumps('see the training text')}"]
    for key, values in (("language", languages), ("tags", tags)):
        lines += [f"{key}:", *(f"- {json.dumps(value, ensure_ascii=False)}" for value in values)]
    return "\n".join([*lines, "---", ""])


def _what(summary: Mapping[str, Any]) -> Iterator[str]:
    model, corpus, minutes = (summary.get(part) or {} for part in ("model", "corpus", "minutes"))
    sentence = "A decoder language model of the Qwen3 shape, trained from random weights by ownlm"
    if model.get("parameters"):
        sentence += f": {words.in_words(model['parameters'])} parameters"
    if corpus.get("bytes"):
        sentence += f", {words.size(corpus['bytes'])} of text"
    if minutes.get("total") is not None:
        sentence += f", {words.duration(minutes['total'])}"
    yield f"{sentence}."
    yield ""
    yield LICENCE_NOTE


def _use() -> Iterator[str]:
    yield "## Use"
    yield ""
    yield "```python"
    yield "import ownlm"
    yield ""
    yield 'model = ownlm.load("path/to/this/folder")'
    yield 'print(model.chat([{"role": "user", "content": "What does len do?"}]).text)'
    yield "```"
    yield ""
    yield "The folder also opens with `transformers.AutoModelForCausalLM.from_pretrained`."


def _how(summary: Mapping[str, Any]) -> Iterator[str]:
    corpus, tokenizer, training, energy = (
        summary.get(part) or {} for part in ("corpus", "tokenizer", "training", "energy")
    )
    rows = [
        ("Text", words.size(corpus.get("bytes"))),
        ("Documents", words.in_words(corpus.get("documents"))),
        ("Corpus hash", str(corpus.get("hash") or "")),
        ("Tokenizer", f"{tokenizer.get('kind', '')} {words.in_words(tokenizer.get('vocab_size'))}".strip()),
        ("Training tokens", words.in_words(training.get("tokens"))),
        ("Steps", words.in_words(training.get("steps"))),
        ("Floating-point operations", words.in_words(training.get("flops"))),
        ("Energy", f"{words.watt_hours(energy.get('watt_hours'))} {energy.get('source', '')}".strip()),
        ("Command", f"`{_code(summary['command'])}`" if summary.get("command") else ""),
    ]
    rows = [(label, value) for label, value in rows if value]
    if rows:
        yield "## How it was made"
        yield ""
        yield from table(("", ""), rows)


def _quality(summary: Mapping[str, Any]) -> Iterator[str]:
    bits = ((summary.get("training") or {}).get("bits_per_byte") or {}).get("after")
    exam = (summary.get("exam") or {}).get("after") or {}
    rows = [
        (KIND_NAMES.get(kind, kind), f"{share['right']} of {share['n']}", _interval(share))
        for kind, share in exam.items()
        if share.get("n")
    ]
    if chosen := (summary.get("choose") or {}).get("pretrained"):
        rows.append(("The right docstring of four", f"{chosen['right']} of {chosen['n']}", _interval(chosen)))
    if bits is None and not rows:
        return
    yield "## How good it is"
    yield ""
    if bits is not None:
        yield f"Bits per byte on held-out documents: {bits:.2f} (lower is better)."
        yield ""
    if rows:
        yield from table(("Held-out questions", "right", "95 % interval"), rows)


def _limits(summary: Mapping[str, Any]) -> Iterator[str]:
    limits = summary.get("limits") or ()
    if limits:
        yield "## What it cannot do"
        yield ""
        yield from (f"- {plain(str(limit))}" for limit in limits)


def _interval(share: Mapping[str, Any]) -> str:
    if "low" not in share or "high" not in share:
        return ""
    return f"{100 * share['low']:.0f} to {100 * share['high']:.0f} %"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(header)} |"
    yield "|---" * len(header) + "|"
    for row in rows:
        yield f"| {' | '.join(plain(cell).replace('|', chr(92) + '|') for cell in row)} |"


def plain(text: str) -> str:
    """One line in which no markup can begin."""
    return " ".join(text.split()).replace("<", "&lt;")


def _code(text: str) -> str:
    return text.replace("`", "'")
