"""Personal data by its format: what is found, what only looks like it, and how often on synthetic sentences."""

import json
import re
import time
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ownlm.corpus.privacy import count_personal_data
from ownlm.personal_data import KINDS, find_personal_data


def found(text: str) -> list[tuple[str, str]]:
    return [(each.kind, text[each.start : each.end]) for each in find_personal_data(text)]


@pytest.mark.parametrize(
    ("text", "kind", "part"),
    [
        ("Write to Ann.Lee+x@mail.example.org.", "e-mail", "Ann.Lee+x@mail.example.org"),
        ("an Jürgen@müller.de,", "e-mail", "Jürgen@müller.de"),
        ("to DE89 3704 0044 0532 0130 00 please", "IBAN", "DE89 3704 0044 0532 0130 00"),
        ("gb82west12345698765432", "IBAN", "gb82west12345698765432"),
        ("card 4111 1111 1111 1112 no, 5500-0055-5555-5559 yes", "credit card", "5500-0055-5555-5559"),
        ("from 93.184.216.34: hello", "IP address", "93.184.216.34"),
        ("at 2606:2800:220:1:248:1893:25c8:1946,", "IP address", "2606:2800:220:1:248:1893:25c8:1946"),
        ("SSN 078-05-1120.", "US social security number", "078-05-1120"),
        ("She was born on 2/8/1935.", "date of birth", "2/8/1935"),
        ("Date of birth: 7 May 1990", "date of birth", "7 May 1990"),
        ("call +46 (0)8 928 571 38 now", "phone", "+46 (0)8 928 571 38"),
        ("(212) 555-0187 x12", "phone", "(212) 555-0187 x12"),
        ("ring 030 1234567.", "phone", "030 1234567"),
        ("Phone:\n60-56-85-91", "phone", "60-56-85-91"),
    ],
)
def test_what_is_found(text: str, kind: str, part: str) -> None:
    assert found(text) == [(kind, part)]


@pytest.mark.parametrize(
    "text",
    [
        "version 1.2.3.4.5, 127.0.0.1, 192.168.1.7, 300.1.1.1, 12:34:56, std::move, 3.14159265358979",
        "user@host, @name, a@b, 1234567890123456, DE00370400440532013000, 000-12-3456",
        "on 01.02.2024, 2024-05-06 10:11:12, pages 123-456, ISBN 978-3-16-148410-0, born in 1970, 10 000 000",
        "f(x) = 0.5 - 12.25 * 1000000 / 3; commit 4154654 at 1732480000",
        "",
    ],
)
def test_what_only_looks_like_it(text: str) -> None:
    assert found(text) == []


def test_counts_name_the_first_place_and_not_the_data() -> None:
    texts = [("a:1", "none"), ("a:2", "x@example.org and y@example.org"), ("a:3", "z@example.org, 93.184.216.34")]
    counts = count_personal_data(texts)
    assert counts == {"e-mail": {"count": 3, "first": "a:2"}, "IP address": {"count": 1, "first": "a:3"}}


@settings(max_examples=100, deadline=None)
@given(st.text("0123456789 .-+()@:/aEx\n", max_size=200))
def test_places_lie_in_the_text_and_apart(text: str) -> None:
    places = sorted((each.start, each.end) for each in find_personal_data(text))
    assert all(0 <= start < end <= len(text) for start, end in places)
    assert all(end <= start for (_, end), (start, _) in pairwise(places))


@pytest.mark.parametrize("unit", ["1", "1 ", "a.", "@", "1:", "(1", "born ", "AA11", "0 1", "phone:"])
def test_no_text_takes_long(unit: str) -> None:
    started = time.thread_time()
    list(find_personal_data(unit * (200_000 // len(unit))))
    assert time.thread_time() - started < 5


# Their kinds, and ours; of DATE_TIME only what the words call a birth.
_SPANS = {
    "EMAIL_ADDRESS": "e-mail",
    "IBAN_CODE": "IBAN",
    "CREDIT_CARD": "credit card",
    "IP_ADDRESS": "IP address",
    "US_SSN": "US social security number",
    "DATE_TIME": "date of birth",
    "PHONE_NUMBER": "phone",
}


@pytest.mark.parametrize("name", ["data/synth_dataset_v2.json", "tests/data/generated_small.json"])
def test_precision_and_recall_on_synthetic_spans(
    shared_data: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    right, said, met, there = (dict.fromkeys(KINDS, 0) for _ in range(4))
    for sentence in json.loads((shared_data / "eval-pii-presidio" / name).read_text(encoding="utf-8")):
        text, spans = sentence["full_text"], []
        for span in sentence["spans"]:
            start, kind = span["start_position"], _SPANS.get(span["entity_type"], "")
            if kind and (kind != "date of birth" or re.search("born|birth", text[max(0, start - 40) : start])):
                spans.append((kind, start, span["end_position"]))
        places = [(each.kind, each.start, each.end) for each in find_personal_data(text)]
        for count, ours, theirs in ((right, places, spans), (met, spans, places)):
            for kind, start, end in ours:
                count[kind] += any(kind == k and s < end and start < e for k, s, e in theirs)
        for count, ours in ((said, places), (there, spans)):
            for kind, _, _ in ours:
                count[kind] += 1
    with capsys.disabled():
        for kind in filter(there.get, KINDS):
            precision, recall = right[kind] / max(said[kind], 1), met[kind] / there[kind]
            print(f"\n{kind:26} n {there[kind]:4}  precision {precision:.3f}  recall {recall:.3f}", end="")
            assert precision >= 0.9 and recall >= 0.7
