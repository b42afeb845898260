"""The longest stretches that stand in the training text: against a plain search, and with the right line."""

import json
import time

from hypothesis import given, settings
from hypothesis import strategies as st

from ownlm.artefact import write_artefact
from ownlm.corpus import CorpusConfig, TrainingText, build_corpus
from ownlm.corpus.document import Document


def training_text(*texts):
    return TrainingText.of(
        [Document(text=text, source="s", path=f"{number}.txt", kind="text") for number, text in enumerate(texts)]
    )


def longest_by_plain_search(texts, answer):
    for length in range(len(answer), 0, -1):
        for start in range(len(answer) - length + 1):
            if any(answer[start : start + length] in text for text in texts):
                return length
    return 0


def test_file_and_line_are_those_of_the_match():
    text = training_text("nothing here\n", "first line\nReturn the absolute value of the argument.\nlast line\n")
    (match,) = text.longest_matches("I think: Return the absolute value of a number")
    assert (match.text, match.path, match.line) == ("Return the absolute value of", "1.txt", 2)


def test_matches_do_not_overlap_and_come_longest_first():
    text = training_text(
        "Return the number of items in a container and go.\nSort the list in ascending order, stably.\n"
    )
    answer = "Return the number of items in a container. Sort the list in ascending order. Return the number of items"
    found = [match.text for match in text.longest_matches(answer, most=2)]
    assert found == ["Return the number of items in a container", "Sort the list in ascending order"]


def test_documents_are_not_joined():
    assert training_text("the end of the one", "text and the other").longest_matches("of the onetext and") == []


def test_halves_of_characters_are_no_match():
    text = training_text("ungefähr zweihundert Vögel über dem Fluß")
    (match,) = text.longest_matches("etwa: zweihundert Vögel übes")
    assert match.text == "zweihundert Vögel übe"


def test_short_or_strange_answers_match_nothing():
    text = training_text("some training text that is long enough to be searched")
    assert text.longest_matches("") == []
    assert text.longest_matches("short") == []
    assert text.longest_matches("\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0") == []


def test_white_space_does_not_take_minutes():
    text = training_text(("x = 1\n" + " " * 64) * 5_000)
    started = time.perf_counter()
    assert text.longest_matches(" " * 300) == []
    assert time.perf_counter() - started < 10


@settings(max_examples=60, deadline=None)
@given(
    texts=st.lists(st.text(alphabet="ab", max_size=120), min_size=1, max_size=4),
    answer=st.text(alphabet="ab", min_size=16, max_size=60),
)
def test_the_longest_match_is_what_a_plain_search_finds(texts, answer):
    found = training_text(*texts).longest_matches(answer)
    longest = longest_by_plain_search(texts, answer)
    assert (len(found[0].text) if found else 0) == (longest if longest >= 16 else 0)
    for match in found:
        assert match.text in answer and match.text in texts[int(match.path[0])]


def test_a_corpus_and_its_conversations_are_searched(tmp_path):
    folder = tmp_path / "text"
    folder.mkdir()
    for number in range(30):
        (folder / f"{number:02}.txt").write_text("".join(f"row {number}.{row} of many\n" for row in range(200)))
    corpus = build_corpus(tmp_path / "corpus", CorpusConfig(text=str(folder)))
    with write_artefact(tmp_path / "chat", kind="conversations", how={}) as draft:
        turns = [{"role": "user", "content": "Who are you, then?"}, {"role": "assistant", "content": "A small helper."}]
        lines = [json.dumps({"messages": turns})] * 2 + [json.dumps({"text": "A document to read on."})]
        (draft.path / "train.jsonl").write_text("\n".join(lines) + "\n")
    text = TrainingText.open(corpus, tmp_path / "chat")
    (match,) = text.longest_matches("Who are you, then?")
    assert (match.source, match.path, match.line) == ("conversations", "train.jsonl", 1)
    assert text.longest_matches("A document to read on.")[0].line == 3
    trained = {document.path for document in text.documents}
    number = int(sorted(trained)[0][:2])
    assert text.longest_matches(f"row {number}.150 of many")[0].line == 151
