"""The report: made of whatever a run left, one file, no script, everything foreign escaped."""

import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from ownlm.artefact import write_artefact
from ownlm.errors import OwnlmError
from ownlm.report import write_report
from ownlm.report.collect import equal_runs, flat, spread, thinned

EVIL = "</pre><script>alert(1)</script><img src=x onerror=alert(1)>\"'&\x00\u202e\ud800"
SHARE = {"right": 57, "n": 60, "low": 0.86, "high": 0.98}
SUMMARY: dict[str, Any] = {
    "name": "quickstart",
    "created": "2026-01-01",
    "command": "ownlm quickstart --minutes 10",
    "minutes": {"pretrain": 6.5, "finetune": 2.5, "total": 9.75},
    "corpus": {
        "documents": 5210,
        "bytes": 37_200_000,
        "hash": "9f31c2ab77e0",
        "sources": [{"source": "python", "kind": "prose", "documents": 2210, "bytes": 9_900_000}],
    },
    "tokenizer": {"kind": "bpe", "vocab_size": 4096, "bytes_per_token": 3.4, "cut": [["Return", " the", "\n"]]},
    "model": {"parameters": 4_128_768, "parameters_by_part": {"embedding": 10}, "config": {"head_dim": 64}},
    "training": {
        "tokens": 10_649_600,
        "bits_per_byte": {"before": 3.5, "after": 1.37, "slices": {"prose": 1.41}},
        "perplexity_per_word": {"before": 812_345, "after": 212.4},
    },
    "exam": {
        "before": {"fact": {"right": 0, "n": 60, "low": 0.0, "high": 0.06}},
        "after": {"fact": SHARE},
        "failures": [{"kind": "fact", "question": "What is zip?", "answer": "A fruit.", "expected": ["An iterator."]}],
    },
    "choose": {"pretrained": SHARE, "scratch": None},
    "memorisation": [{"split": "train", "prompt": "Open the", "written": " file", "text": " fine", "equal_share": 0.8}],
    "energy": {"watt_hours": 6.24, "source": "estimated", "method": "18 W a core", "carbon_grams": [0.2, 4.4]},
    "limits": ["It cannot add."],
    "next": ["ownlm chat chat/"],
    "paths": {"the model": "chat/"},
}


class Tags(HTMLParser):
    """Every element and attribute of a page, and whether the elements nest."""

    VOID = ("meta", "br", "img")

    def __init__(self, page: str) -> None:
        super().__init__()
        self.names: set[str] = set()
        self.attributes: set[str] = set()
        self.open: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.add(tag)
        self.attributes |= {name for name, _ in attrs}
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.add(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def make_run(run: Path, summary: dict[str, Any], words: str = "Return the list") -> Path:
    (run / "base").mkdir(parents=True)
    events: list[dict[str, Any]] = [
        {"event": "start", "step": 0, "plan": {}, "reference_lines": {"uniform": 8.0, "gzip": 2.1}}
    ]
    events += [{"event": "step", "step": step, "loss": 9 / step} for step in range(1, 50)]
    events += [{"event": "validation", "step": step, "bits_per_byte": 3 / step} for step in (1, 2)]
    samples = [{"step": step, "prompt": words, "text": words} for step in (1, 2)]
    samples.append({"step": 3, "prompt": words, "text": "\n\n\n  of\n" + "the " * 99})
    for name, lines in (("events", events), ("samples", samples)):
        text = "".join(json.dumps(line) + "\n" for line in lines)
        (run / "base" / f"{name}.jsonl").write_text(text, encoding="utf-8")
    (run / "base" / "run.json").write_text(json.dumps({"steps": 50, "note": words}), encoding="utf-8")
    (run / "summary.json").write_text(json.dumps(summary), encoding="utf-8")
    with write_artefact(run / "corpus", kind="corpus", how={"seed": {"value": 7}}, inputs={}) as draft:
        (draft.path / "documents").write_text("x", encoding="utf-8")
    return run


def replaced(value: Any, text: str) -> Any:
    """`value` with every string in it, names of fields apart, made `text`."""
    if isinstance(value, dict):
        return {name: replaced(part, text) for name, part in value.items()}
    if isinstance(value, list):
        return [replaced(part, text) for part in value]
    return text if isinstance(value, str) else value


def test_a_full_run_tells_everything(tmp_path: Path) -> None:
    path = write_report(make_run(tmp_path / "run", SUMMARY))
    page = path.read_text(encoding="utf-8")
    said = (
        "4.1\u00a0million weights", "37.2\u00a0MB of text", "9\u00a0min 45\u00a0s", "6.2\u00a0Wh", "18 W a core",
        "bits per byte", "gzip 2.1", "guessing 8", "among 212 equally likely words",
        "57 of 60, 95\u00a0%", "(86–98)", "What is zip?", "A fruit.",
        "An iterator.", "<mark> fi</mark>", "0.2 to 4.4 g", "It cannot add.", "seed.value", "chat/",
        "⏎⏎ of ⏎ the the", "the the…", "ownlm quickstart --minutes 10", "prefers-color-scheme: dark",
    )  # fmt: skip
    assert [words for words in said if words not in page] == []
    tags = Tags(page)
    assert tags.open == []
    assert tags.names.isdisjoint({"script", "img", "link", "iframe"}) and "src" not in tags.attributes
    assert "http" not in page.replace("http-equiv", "")


def test_nothing_from_a_model_or_a_text_becomes_markup(tmp_path: Path) -> None:
    honest = Tags(write_report(make_run(tmp_path / "a", SUMMARY)).read_text(encoding="utf-8"))
    summary = replaced(SUMMARY, EVIL) | {"exam": {"after": {EVIL: SHARE}}, "paths": {EVIL: EVIL}}
    page = write_report(make_run(tmp_path / "b", summary, words=EVIL)).read_text(encoding="utf-8")
    evil = Tags(page)
    assert evil.names <= honest.names and evil.attributes <= honest.attributes
    assert "\x00" not in page and "␀" in page


@pytest.mark.parametrize("missing", sorted(SUMMARY))
def test_a_missing_part_is_left_out(tmp_path: Path, missing: str) -> None:
    summary = {name: value for name, value in SUMMARY.items() if name != missing}
    assert Tags(write_report(make_run(tmp_path / "run", summary)).read_text(encoding="utf-8")).open == []


def test_a_run_cut_short_and_a_damaged_file_still_give_a_report(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", {})
    (run / "summary.json").write_text("{", encoding="utf-8")
    (run / "corpus" / "card.json").write_text("{", encoding="utf-8")
    page = write_report(run).read_text(encoding="utf-8")
    assert "summary.json is damaged" in page and "card of corpus/ is damaged" in page and "How it learned" in page


def test_no_run_is_said_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(OwnlmError, match="holds no run"):
        write_report(tmp_path)
    with pytest.raises(OwnlmError, match="no such folder"):
        write_report(tmp_path / "none")


def test_points_and_samples_are_thinned_with_both_ends_kept() -> None:
    assert thinned([(float(x), 1.0) for x in range(1000)], most=100)[0] == (4.5, 1.0)
    shown = spread(list(range(50)), most=7)
    assert shown[0] == 0 and shown[-1] == 49 and len(shown) <= 7 and shown == sorted(set(shown))


def test_settings_become_rows_and_texts_are_compared_place_by_place() -> None:
    assert flat({"train": {"rate": 0.1, "name": "muon"}, "none": None}) == [
        ("train.rate", "0.1"), ("train.name", "muon"), ("none", "null"),
    ]  # fmt: skip
    assert equal_runs("abXd+", "abcd") == [(True, "ab"), (False, "X"), (True, "d"), (False, "+")]
