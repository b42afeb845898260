"""README.md of a tuned model or adapter: from what, how, how much better on what, what it may repeat.

In:  the run's card and, if it was measured, the results.json of its evaluation, both as dictionaries. Out: Markdown.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ownlm.report import words
from ownlm.report.model_card import front_matter, plain, table

# What results.json calls a metric, for people.
METRICS = {
    "f1": "token F1",
    "exact_match": "exact match",
    "answer_perplexity": "perplexity of the expected answers",
    "answer_bits_per_byte": "bits per byte of the expected answers",
    "bits_per_byte": "bits per byte",
    "perplexity": "perplexity a token",
    "acc": "accuracy",
    "acc_norm": "accuracy, by characters",
    "acc_bytes": "accuracy, by bytes",
    "prefers_first": "prefers the first group",
    "mean_difference": "nats for the first group",
    "chrf": "chrF",
    "bleu": "BLEU",
}
PERSONAL = "It can repeat what it read, word for word."


def tuning_card(
    card: Mapping[str, Any], results: Mapping[str, Any] | None = None, *, name: str, notice: str | None = None
) -> str:
    """The text of README.md."""
    figures = card["figures"]
    adapter = card["kind"] == "adapter"
    sections = (
        _what(figures, adapter=adapter, notice=notice),
        _use(adapter=adapter, chats=card["kind"] != "base model"),
        _how(figures, card["how"]),
        _quality(results or {}),
        _personal(figures),
    )
    body = "\n\n".join("\n".join(section) for section in (list(lines) for lines in sections) if section)
    return f"{front_matter(('en',), ('ownlm', 'lora' if adapter else 'text-generation'))}\n# {plain(name)}\n\n{body}\n"


def _what(figures: Mapping[str, Any], *, adapter: bool, notice: str | None) -> Iterator[str]:
    kind = "A LoRA adapter for" if adapter else "A model tuned from"
    yield f"{kind} {plain(str(figures.get('base', 'a model')))}, made by ownlm; card.json says from what and how."
    if notice:
        yield ""
        yield f"**{plain(notice)}**"


def _use(*, adapter: bool, chats: bool) -> Iterator[str]:
    yield "## Use"
    yield ""
    yield "```python"
    yield "import ownlm"
    yield ""
    yield 'model = ownlm.load("path/to/this/folder")'
    yield (
        'print(model.chat([{"role": "user", "content": "Hello"}]).text)'
        if chats
        else 'print(model.generate("The").text)'
    )
    yield "```"
    if adapter:
        yield ""
        yield "PEFT opens it beside its model; `ownlm convert FOLDER NEW` makes one model of both."


def _how(figures: Mapping[str, Any], plan: Mapping[str, Any]) -> Iterator[str]:
    counts = figures.get("conversations") or {}
    rows = [
        ("Conversations and documents", f"{counts.get('conversations', 0):,} and {counts.get('documents', 0):,}"),
        ("Trained tokens of the set", words.in_words(counts.get("trained_tokens"))),
        ("Steps", words.in_words(plan.get("steps"))),
        ("Tokens a step", words.in_words((plan.get("rows") or 0) * (plan.get("context") or 0))),
        ("Training", words.duration(figures["seconds"] / 60) if "seconds" in figures else ""),
        ("Energy", f"{words.watt_hours(figures.get('watt_hours'))} {figures.get('energy_source', '')}".strip()),
    ]
    yield "## How it was made"
    yield ""
    yield from table(("", ""), [row for row in rows if row[1]])


def _quality(results: Mapping[str, Any]) -> Iterator[str]:
    rows = [row for task in results.get("tasks", ()) for row in _rows(task)]
    if not rows:
        return
    yield "## Before and after"
    yield ""
    yield "The same items, asked of the model that it was made from and of this one; 95 % intervals of the change."
    yield ""
    yield from table(("", "n", "before", "after", "change", "verdict"), rows)


def _rows(task: Mapping[str, Any]) -> Iterator[Sequence[str]]:
    for name, found in task["metrics"].items():
        beside = (task.get("vs") or {}).get(name)
        if found["value"] is None:
            continue
        what, n, after = f"{task['name']}: {METRICS.get(name, name)}", f"{found['n']:,}", f"{found['value']:.3g}"
        if beside is None:
            yield what, n, "", after, "", ""
            continue
        change = f"{beside['difference']:+.3g}"
        if beside["interval"] is not None:
            change += " ({:+.3g} to {:+.3g})".format(*beside["interval"])
        yield what, n, f"{beside['other']:.3g}", after, change, beside["verdict"]


def _personal(figures: Mapping[str, Any]) -> Iterator[str]:
    found = figures.get("personal_data")
    yield "## What it cannot do"
    yield ""
    yield "- What it says is likely text, not checked truth."
    if found:
        kinds = ", ".join(f"{one['count']:,} {kind}" for kind, one in found.items())
        yield f"- Its data held what looks like personal data ({plain(kinds)}). {PERSONAL}"
    elif found is not None:
        yield f"- Nothing in its data has the form of personal data; names were not looked for. {PERSONAL}"
