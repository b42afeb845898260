"""Facts: real first sentences, useful ones only; wordings of training and exam share nothing."""

import inspect
import random

import pytest

from ownlm.corpus.conversations import fact_questions
from ownlm.corpus.conversations.facts import first_sentence, load_facts, lookup
from ownlm.corpus.conversations.near_miss import (
    BARE,
    KEPT,
    KEPT_BARE,
    ask_near_miss,
    first_of_owner,
    make_near_misses,
)


@pytest.mark.parametrize(
    ("docstring", "sentence"),
    [
        ("Return x. And more.", None),
        ("Return the larger one. And more.", "Return the larger one."),
        ("S.find(sub) -> int\n\nReturn the lowest\nindex, e.g. 3. Then.", "Return the lowest index, e.g. 3."),
        ("D.clear() -> None.  Remove all items from D.", "Remove all items from D."),
        ("D.items() -> a set-like object", "a set-like object"),
        ("zip(*its) --> Yield tuples until one ends.\n\n   >>> 1", "Yield tuples until one ends."),
        ("Return self+value.", None),
        ("Return a private helper of it.", None),
        ("", None),
    ],
)  # fmt: skip
def test_first_sentence(docstring: str, sentence: str | None) -> None:
    assert first_sentence(docstring) == sentence


def test_facts_are_many_and_stand_in_the_docstrings() -> None:
    facts = load_facts()
    assert 300 <= len(facts) <= 420
    assert len({fact.name for fact in facts}) == len(facts)
    for fact in facts:
        docstring = " ".join((inspect.getdoc(lookup(fact.name)) or "").split())
        assert fact.sentence in docstring
        assert "\n" not in fact.sentence


def test_names_that_everybody_uses_are_there() -> None:
    names = {fact.name for fact in load_facts()}
    assert {"len", "print", "str.split", "list.append", "dict.get", "os.path.join", "json.loads", "math.sqrt"} <= names
    assert {"random.choice", "re.sub", "collections.Counter"} <= names


def test_wordings_of_the_three_groups_differ() -> None:
    groups = [
        {wording.lower().rstrip("?.") for wording in group}
        for group in (fact_questions.TRAINED, fact_questions.HELD_OUT, fact_questions.IN_SCOPE)
    ]
    assert len(groups[0]) >= 40
    assert len(groups[1]) >= 8
    assert not groups[0] & groups[1] and not groups[0] & groups[2] and not groups[1] & groups[2]


def test_lookup_of_what_is_not_there() -> None:
    assert lookup("list.shuffle") is None
    assert lookup("no_such_module_at_all.x") is None
    assert lookup("os.path.join") is not None


def test_near_misses_do_not_exist_and_share_no_word_with_the_exam() -> None:
    near_misses = make_near_misses(load_facts())
    learnt = {fact.name for fact in load_facts()}
    trained_words = {name.rpartition(".")[2] for name in near_misses.trained}
    held_out_words = {name.rpartition(".")[2] for name in near_misses.held_out}
    assert not trained_words & held_out_words
    assert not set(BARE) & set(KEPT_BARE) and not set(KEPT) & trained_words
    assert {"list.shuffle", "str.explode", "math.double"} <= set(near_misses.held_out)
    rng = random.Random(0)
    for name in [*near_misses.held_out, *rng.sample(near_misses.trained, 300)]:
        assert name not in learnt
        assert lookup(name) is None


def test_a_near_miss_is_declined_by_name_with_a_learnt_neighbour() -> None:
    known = first_of_owner(load_facts())
    exchange = ask_near_miss("list.wobble", known, random.Random(0))
    assert "`list.wobble`" in exchange.answer
    assert f"`{known['list']}`" in exchange.answer
    assert "len" in ask_near_miss("wobble", known, random.Random(0)).answer
