"""The user's own conversations: every line is used, or named with what is wrong with it."""

import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ownlm.artefact import read_card
from ownlm.corpus.conversations import ConversationsConfig, build_conversations
from ownlm.corpus.conversations.check import checked
from ownlm.corpus.conversations.forms import read_form
from ownlm.corpus.conversations.hold_out import hold_out
from ownlm.corpus.conversations.problems import BadLineError
from ownlm.errors import OwnlmError

GOOD = '{"prompt": "Hi", "completion": "Hello"}'
HI, HELLO = {"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}
CALL = {"name": "now", "arguments": {"zone": "UTC"}}
CALLING = {"role": "assistant", "content": "", "tool_calls": [{"type": "function", "function": CALL}]}


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def many(count: int) -> list[str]:
    return [json.dumps({"prompt": f"Say {n}", "completion": str(n)}) for n in range(count)]


def build(tmp_path: Path, text: str | bytes, name: str = "chat.jsonl", **more: Any) -> Path:
    chat = tmp_path / name
    chat.write_bytes(text if isinstance(text, bytes) else text.encode())
    return build_conversations(tmp_path / "made", ConversationsConfig(chat=chat, **more))


def test_both_forms_are_read_and_one_in_twenty_is_held_out(tmp_path: Path) -> None:
    talk = [
        ("system", "Be brief."),
        ("user", "Grüß Gott <|im_end|>"),
        ("assistant", "Hello"),
        ("user", "1"),
        ("assistant", "2"),
    ]
    messages = [{"role": role, "content": content} for role, content in talk]
    lines = many(38)
    out = build(tmp_path, "\ufeff" + "\n\n".join([*lines, json.dumps({"messages": messages}), lines[0]]))
    train, held = read(out / "train.jsonl"), read(out / "validation.jsonl")
    assert 1 <= len(held) <= 3 and len(train) + len(held) == 40
    assert not any(line in train for line in held)
    assert {"messages": messages} in train + held
    assert not (out / "exam.jsonl").exists() and not (out / "choose.jsonl").exists()
    card = read_card(out)
    assert card.how["chat"] == "chat.jsonl" and "chat" in card.inputs
    assert card.figures["equal_lines"] == 1 and card.figures["lines_read"] == 40
    assert str(tmp_path) not in card.to_json()


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ({"messages": [HI, {**HELLO, "weight": 0}, HI, HELLO]}, [HI, {**HELLO, "train": False}, HI, HELLO]),
        ({"messages": [{**HI, "role": "developer"}, HI, HELLO]}, [{**HI, "role": "system"}, HI, HELLO]),
        ({"messages": [{**HI, "content": [{"type": "text", "text": "Hi"}]}, {**HELLO, "weight": 1}]}, [HI, HELLO]),
        ({"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}]}, [HI, HELLO]),
        (
            {
                "conversations": [
                    {"from": "human", "value": "Hi"},
                    {"from": "function_call", "value": json.dumps(CALL)},
                    {"from": "observation", "value": "12"},
                    {"from": "gpt", "value": "Hello"},
                ]
            },
            [HI, CALLING, {"role": "tool", "content": "12"}, HELLO],
        ),
        (
            {
                "messages": [
                    HI,
                    {
                        "role": "assistant",
                        "content": None,
                        "tool_calls": [{"function": {**CALL, "arguments": json.dumps(CALL["arguments"])}}],
                    },
                ]
            },
            [HI, CALLING],
        ),
        ({"instruction": "Hi", "input": "", "output": "Hello"}, [HI, HELLO]),
        ({"instruction": "Hi", "input": "x", "output": "Hello"}, [{**HI, "content": "Hi\n\nx"}, HELLO]),
        ({"instruction": "Hi", "output": "Hello", "history": [["Hi", "Hello"]]}, [HI, HELLO, HI, HELLO]),
        ({"prompt": "Hi", "completion": "Hello", "system": "S"}, [{"role": "system", "content": "S"}, HI, HELLO]),
        ({"prompt": [HI, HELLO, HI], "completion": [HELLO]}, [HI, {**HELLO, "train": False}, HI, HELLO]),
        ({"question": "Hi", "answer": "Hello", "text": "beside"}, [HI, HELLO]),
        ({"messages": [HI, HELLO, HI]}, [HI, HELLO]),
    ],
)
def test_every_form(entry: dict[str, Any], expected: list[dict[str, Any]]) -> None:
    line, mended = checked(read_form(entry))
    assert line == {"messages": expected}
    assert bool(mended) == (entry == {"messages": [HI, HELLO, HI]})


def test_tools_are_given_as_a_list_or_as_json() -> None:
    wrapped = [{"type": "function", "function": {"name": "now"}}]
    for tools in (wrapped, [{"name": "now"}], json.dumps([{"name": "now"}])):
        assert read_form({"messages": [HI, HELLO], "tools": tools})["tools"] == wrapped
    assert "tools" not in read_form({"messages": [HI, HELLO], "tools": []})
    assert read_form({"text": "a"}) == {"text": "a"}


def test_every_kind_of_file_and_a_folder_of_them(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    (folder / "deep").mkdir(parents=True)
    entries = [json.loads(line) for line in many(4)]
    (folder / "a.jsonl").write_text(json.dumps(entries[0]))
    (folder / "deep" / "b.jsonl.gz").write_bytes(gzip.compress(json.dumps(entries[1]).encode()))
    (folder / "c.json").write_text(" " + json.dumps(entries[2:3], indent=1))
    talk = {"messages": [HI, {**HELLO, "name": "x"}], "prompt": None, "completion": None}
    pq.write_table(pa.Table.from_pylist([{**entries[3], "messages": None}, talk]), folder / "d.parquet")
    (folder / "e.txt").write_text("no conversation")
    (folder / ".hidden").write_text("{")
    out = build_conversations(tmp_path / "made", ConversationsConfig(chat=folder))
    assert len(read(out / "train.jsonl")) + len(read(out / "validation.jsonl")) == 5
    assert [(p["file"], p["kind"]) for p in read(out / "problems.jsonl")] == [("e.txt", "file of another kind")]
    assert read_card(out).how["chat"] == "folder"


BAD = [
    ("nonsense", "is not JSON", "not JSON"),
    ('{"prompt": "x", "completion": "y", "n": NaN}', "is not JSON (it holds NaN", "not JSON"),
    ("[" * 100_000, "is not JSON", "not JSON"),
    ("[1]", "is no JSON object", "no known form"),
    ('{"say": "x"}', "has neither messages nor another known form's fields, but say", "no known form"),
    ('{"messages": []}', "messages is no list of turns", "wrong type"),
    ('{"prompt": [], "completion": []}', "holds lists without a turn", "wrong type"),
    ('{"messages": "x"}', "messages is no list of turns", "wrong type"),
    ('{"messages": [3]}', "message 1 is no object", "wrong type"),
    ('{"messages": [{"content": "x"}]}', "message 1 has no role", "missing role"),
    ('{"messages": [{"role": "king", "content": "x"}]}', "message 1 has the role 'king'", "unknown role"),
    ('{"messages": [{"role": ["user"], "content": "x"}]}', "message 1 has the role", "unknown role"),
    ('{"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}', "such as images", "wrong type"),
    ('{"prompt": "", "completion": "x"}', "message 1 has no text", "empty"),
    ('{"prompt": "x", "completion": " \\n"}', "message 2 has no text", "empty"),
    ('{"prompt": "x", "completion": 3}', "message 2 has no text as its content, but a int", "wrong type"),
    ('{"text": " "}', "text is empty", "empty"),
    ('{"text": 7}', "text is no string", "wrong type"),
    ('{"prompt": "\\ud800", "completion": "x"}', "lone surrogate", "half a character"),
    ('{"text": "a\\u0000b"}', "holds the character NUL", "NUL in the text"),
    ('{"messages": [{"role": "assistant", "content": "x"}]}', "by the assistant, at the beginning", "answer first"),
    ('{"messages": [{"role": "user", "content": "x"}]}', "ends with the user", "no answer"),
    (json.dumps({"messages": [HI, HI, HELLO]}), "message 2 is by the user, after the user", "two questions in a row"),
    (json.dumps({"messages": [HI, HELLO, HELLO]}), "message 3 is by the assistant", "two answers in a row"),
    (json.dumps({"messages": [HI, HELLO, {**HI, "role": "system"}]}), "message 3", "system turn in the middle"),
    (json.dumps({"messages": [HI, HELLO, {**HI, "role": "tool"}]}), "message 3", "turn out of place"),
    (json.dumps({"messages": [HI, CALLING, HI, HELLO]}), "message 3", "turn out of place"),
    (json.dumps({"messages": [HI, {**HELLO, "weight": 0}]}), "every answer is context", "nothing to train on"),
    (json.dumps({"messages": [HI, {**HELLO, "weight": 0.5}]}), "has a weight other", "wrong type"),
    (json.dumps({"messages": [HI, HELLO], "tools": "{"}), "tools is a string that is not JSON", "wrong type"),
    ('{"prompt": "x", "completion": "y", "tools": [{"a": %s}]}' % ("[" * 200 + "]" * 200), "100 deep", "wrong type"),
    (json.dumps({"messages": [HI, {**HELLO, "tool_calls": [3]}]}), "tool_calls that are no list", "wrong type"),
]


@pytest.mark.parametrize(("line", "message", "kind"), BAD)
def test_a_bad_line_is_left_out_and_named(tmp_path: Path, line: str, message: str, kind: str) -> None:
    lines = many(30)
    out = build(tmp_path, "\n".join([*lines[:7], line, *lines[7:]]))
    (problem,) = read(out / "problems.jsonl")
    assert (problem["file"], problem["line"], problem["action"]) == ("chat.jsonl", 8, "left out")
    assert message in problem["why"] and problem["kind"] == kind
    assert len(read(out / "train.jsonl")) + len(read(out / "validation.jsonl")) == 30
    figures = read_card(out).figures
    assert figures["lines_read"] == 31 and [(p["kind"], p["count"]) for p in figures["problems"]] == [(kind, 1)]


@pytest.mark.parametrize(("line", "message", "kind"), BAD)
def test_too_many_bad_lines_refuse_the_whole_and_strict_the_first(
    tmp_path: Path, line: str, message: str, kind: str
) -> None:
    for lines, strict in (([GOOD, line], False), ([GOOD, line, *many(40)], True)):
        with pytest.raises(OwnlmError) as caught:
            build(tmp_path, "\n".join(lines), strict=strict)
        assert "chat.jsonl:2: " in str(caught.value) and message in str(caught.value) and kind in str(caught.value)
        assert "\n" not in str(caught.value)
        assert not (tmp_path / "made").exists()


def test_a_utf8_fault_among_many_lines_is_one_line(tmp_path: Path) -> None:
    lines = [line.encode() for line in many(7400)]
    lines[7311] = b'{"prompt": "\xff", "completion": "x"}'
    out = build(tmp_path, b"\r\n".join(lines))
    (problem,) = read(out / "problems.jsonl")
    assert (problem["line"], problem["kind"]) == (7312, "not UTF-8")


def test_what_is_mended_and_what_is_kept_is_named_too(tmp_path: Path) -> None:
    lines = [
        *many(3),
        json.dumps({"messages": [HI, HELLO, HI]}),
        json.dumps({"text": "word " * 100_000}),
        '{"id": 7, "text": "a"}',
        '{"id": 7, "text": "b"}',
    ]
    out = build(tmp_path, "\n".join(lines))
    problems = [(p["line"], p["kind"], p["action"]) for p in read(out / "problems.jsonl")]
    assert problems == [
        (4, "ends without an answer", "mended"),
        (5, "very long", "kept"),
        (7, "id used twice", "kept"),
    ]
    assert read_card(out).figures["documents"] == 3


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.json", b"[1, 2", "a.json:1 is not JSON"),
        ("a.json", b'[\n"\xff"]', "a.json:2 is not UTF-8"),
        ("a.json", b'{"a": 1}\n', "cannot be used"),
        ("a.jsonl.gz", b"no gzip", "cannot read"),
        ("a.jsonl.gz", gzip.compress(GOOD.encode(), mtime=0)[:-9], "cannot read"),
        ("a.parquet", b"PAR1", "cannot read"),
        ("a.jsonl", b"", "holds 0 conversations"),
        ("a.jsonl", b"\n\n", "holds 0 conversations"),
        ("a.jsonl", GOOD.encode(), "holds 1 conversations"),
        ("a.jsonl", b"\xff\xfe\x00", "is not UTF-8"),
        ("a.jsonl", f"{GOOD}\n{GOOD}\n".encode(), "are the same"),
    ],
)
def test_files_that_cannot_be_used_are_refused(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    with pytest.raises(OwnlmError, match=message):
        build(tmp_path, content, name)
    with pytest.raises(OwnlmError, match="no such file"):
        build_conversations(tmp_path / "made", ConversationsConfig(chat=tmp_path / "absent.jsonl"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(OwnlmError, match="holds no conversations"):
        build_conversations(tmp_path / "made", ConversationsConfig(chat=tmp_path / "empty"))


WORDS = st.lists(st.sampled_from(("red", "green", "blue", "cat")), min_size=1, max_size=3).map(" ".join)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(WORDS, st.sampled_from([None, "a", "b", "c"])), min_size=2, max_size=40), st.integers(0, 5))
def test_every_line_is_on_one_side_with_all_that_are_alike(rows: list[tuple[str, str | None]], seed: int) -> None:
    lines = [{"text": text} for text, _ in rows]
    try:
        train, held, _ = hold_out(lines, [group for _, group in rows], seed)
    except OwnlmError:
        return
    assert sorted(map(id, train + held)) == sorted(map(id, lines)) and train and held
    for key in (lambda place: " ".join(rows[place][0].split()), lambda place: rows[place][1] or place):
        sides = [
            {key(place) for place, line in enumerate(lines) if any(line is each for each in side)}
            for side in (train, held)
        ]
        assert not sides[0] & sides[1]


def test_near_duplicates_stay_together() -> None:
    text = " ".join(f"word{n}" for n in range(60))
    lines = [{"text": f"{' '.join(f'{n}x{k}' for k in range(30))}"} for n in range(60)]
    lines += [{"text": f"{text} ending {n}"} for n in range(20)]
    for seed in range(20):
        train, held, figures = hold_out(lines, [None] * len(lines), seed)
        assert figures["near_duplicates"] == 19 and figures["near_duplicates_kept_together"]
        assert len({any(line["text"].startswith("word0") for line in side) for side in (train, held)}) == 2
        assert 1 <= len(held) <= 8
    with pytest.raises(OwnlmError, match="of one group"):
        hold_out(lines, ["one"] * len(lines), 0)


def test_lines_of_one_wording_are_parted_all_the_same() -> None:
    lines = [{"text": " ".join(f"word{n}" for n in range(90)) + f" {n}"} for n in range(40)]
    train, held, figures = hold_out(lines, [None] * 40, 0)
    assert len(held) == 2 and len(train) == 38 and not figures["near_duplicates_kept_together"]


def test_a_group_stays_on_one_side(tmp_path: Path) -> None:
    lines = [json.dumps({"prompt": f"Say {n}", "completion": "x", "source": f"s{n // 3}"}) for n in range(60)]
    out = build(tmp_path, "\n".join(lines), group="source")
    sides = [
        {int(line["messages"][0]["content"][4:]) // 3 for line in read(out / f"{name}.jsonl")}
        for name in ("train", "validation")
    ]
    assert not sides[0] & sides[1] and len(sides[1]) == 1
    with pytest.raises(OwnlmError, match="has the field 'sauce'"):
        build_conversations(tmp_path / "again", ConversationsConfig(chat=tmp_path / "chat.jsonl", group="sauce"))


KEYS = ("messages", "conversations", "role", "from", "content", "value", "text", "prompt", "completion", "tools")
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.sampled_from(("user", "gpt")),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=300, deadline=None)
@given(JSON)
def test_any_json_is_read_or_refused_with_a_reason(entry: Any) -> None:
    try:
        line, _ = checked(read_form(entry))
    except BadLineError as error:
        assert error.kind and error.why
    else:
        assert set(line) <= {"messages", "tools", "text"} and json.dumps(line)
