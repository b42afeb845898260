"""The model card: front matter that YAML reads, and the run's figures in Markdown."""

from typing import Any

from ruamel.yaml import YAML

from ownlm.report import model_card, words

SUMMARY: dict[str, Any] = {
    "name": "quickstart",
    "command": "ownlm quickstart",
    "minutes": {"total": 9.75},
    "corpus": {"documents": 5210, "bytes": 37_200_000, "hash": "9f31"},
    "tokenizer": {"kind": "bpe", "vocab_size": 4096},
    "model": {"parameters": 4_128_768},
    "training": {"bits_per_byte": {"after": 1.37}},
    "exam": {"after": {"fact": {"right": 57, "n": 60, "low": 0.86, "high": 0.98}}},
    "energy": {"watt_hours": 6.24, "source": "estimated"},
    "limits": ["It cannot add <b>|</b>."],
}


def front_matter(card: str) -> dict[str, Any]:
    _, matter, _ = card.split("---\n", 2)
    return dict(YAML(typ="safe").load(matter))


def test_front_matter_survives_hostile_names() -> None:
    matter = front_matter(model_card(SUMMARY, tags=["ownlm", 'a"b: [c]\n---']))
    assert matter["library_name"] == "transformers"
    assert matter["language"] == ["en"] and matter["tags"] == ["ownlm", 'a"b: [c]\n---']


def test_the_card_says_what_how_how_good_and_what_not() -> None:
    card = model_card(SUMMARY, name="My model")
    for said in ("# My model", "4.1\u00a0million parameters", "57 of 60", "86 to 98 %", "1.37", "estimated"):
        assert said in card
    assert "It cannot add &lt;b>|&lt;/b>." in card
    assert "`ownlm quickstart`" in card


def test_a_card_of_nothing_is_still_a_card() -> None:
    card = model_card({})
    assert "# A language model" in card and "## How good it is" not in card


def test_figures_in_words() -> None:
    assert words.in_words(4_128_768) == "4.1\u00a0million"
    assert words.in_words(812) == "812" and words.in_words(None) == "" and words.in_words(12.34) == "12.3"
    assert words.duration(0.1) == "6\u00a0s" and words.duration(135) == "2\u00a0h 15\u00a0min"
    assert words.size(999) == "999\u00a0bytes" and words.size(9_900_000) == "9.9\u00a0MB"
    assert words.watt_hours(0.034) == "0.034\u00a0Wh" and words.watt_hours(1240) == "1.2\u00a0kWh"
    assert words.percent(0.953) == "95\u00a0%"
