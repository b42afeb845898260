"""A policy's file, what its rules find in a text, and a stream that never says what they forbid."""

import random
from pathlib import Path

import pytest

from ownlm.engine import Piece
from ownlm.errors import OwnlmError
from ownlm.personal_data import KINDS
from ownlm.server.guard.asked import AskedCheck
from ownlm.server.guard.find import Patterns, Personal, Words
from ownlm.server.guard.plain import Plain
from ownlm.server.guard.policy import Policy, Rule, read_policy
from ownlm.server.guard.said import SaidCheck
from ownlm.tokenizer import Tokenizer

DOCS = Path(__file__).resolve().parents[2] / "docs" / "server.md"


def policy(folder: Path, text: str) -> Policy:
    (folder / "policy.toml").write_text(text, encoding="utf-8")
    return read_policy(folder / "policy.toml")


def rule(what: str, folder: Path, *, where: str = "output", action: str = "mask", more: str = "") -> Rule:
    return policy(folder, f'[[rules]]\nname = "r"\nwhere = "{where}"\naction = "{action}"\n{what}\n{more}').rules[0]


def test_the_documented_policy_is_one(tmp_path: Path) -> None:
    sample = DOCS.read_text(encoding="utf-8").split("```toml\n")[1].split("```")[0]
    rules = policy(tmp_path, sample).rules
    assert [rule.name for rule in rules] == ["house secrets", "access keys", "people", "harm"]
    assert (
        rules[0].refusal != rules[3].refusal == "I cannot help with that." and rules[2].masked("e-mail") == "[e-mail]"
    )


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("rules = 1", "rules: input should be a valid list"),
        ("[[rules]", "is no TOML"),
        ('[[rules]]\nname = "a"\npatern = ["x"]', r"line 1, rule 'a': .* is missing"),
        ('x = 1\n\n[[rules]]\nname = "a"\nwhere = "input"\naction = "log"\nwords = ["x"]', "unknown key 'x'"),
        ("rule 3", "is no TOML"),
    ],
)
def test_a_policy_that_is_wrong_is_refused_in_a_line(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(OwnlmError, match=told) as caught:
        policy(tmp_path, text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("what", "told"),
    [
        ('patern = ["x"]', "unknown key 'patern'; is it 'patterns'"),
        ("", "has one of words, patterns, personal_data, guard_model, and this has none"),
        ('words = ["x"]\npatterns = ["y"]', "this has words and patterns"),
        ('patterns = ["secret-.+"]', "bound it"),
        ('patterns = ["(?=x)y"]', "not one of RE2's"),
        ('patterns = ["x*"]', "matches nothing at all"),
        ('patterns = ["a)(b"]', "not one of RE2's"),
        ('patterns = ["[[:alpha:]]{2000}"]', "not one of RE2's"),
        ('words = ["\\u200b"]', "without a letter"),
        ('personal_data = ["shoe size"]', "there are e-mail"),
        ('words = ["x"]\nmodel = ["y"]', "unknown key 'model'; is it 'models'"),
        ('guard_model = {model = "m", url = "http://u:p@h"}', "without a password"),
        ('guard_model = {model = "m", url = "file:///x"}', "must be such as http"),
        ('guard_model = {model = "m", keyfrom = "X"}', "'guard_model.keyfrom'; is it 'key_from'"),
        ('guard_model = {model = "m"}', "finds no place in it"),
    ],
)
def test_a_rule_that_is_wrong_is_refused_with_its_line(tmp_path: Path, what: str, told: str) -> None:
    good = '[[rules]]\nname = "a"\nwhere = "input"\naction = "log"\nwords = ["q"]\n'
    with pytest.raises(OwnlmError) as caught:
        policy(tmp_path, f'{good}[[rules]]\nname = "b"\nwhere = "output"\naction = "mask"\n{what}')
    assert told in str(caught.value) and "line 6, rule 'b'" in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "said",
    [
        "bluebird",
        "BLUEBIRD",
        "Ｂｌｕｅｂｉｒｄ",
        "blue\u200bbird",
        "b\u00adluebird",
        "blu\\u0065bird",
        "\u202ebluebird",
    ],
)
def test_a_word_is_found_however_it_is_dressed(said: str) -> None:
    text = f"The {said}, here"
    plain = Plain(text)
    found = [(plain.origin(begin), plain.origin_of_end(end)) for begin, end, _ in Words(["Bluebird"]).find(plain.text)]
    assert len(found) == 1
    begin, end = found[0]
    assert text[:begin].rstrip("\u202e") == "The " and text[end:] == ", here"


@pytest.mark.parametrize(
    ("finder", "text", "found"),
    [
        (Words(["cat"]), "concatenate the cat, cat_s", ["cat"]),
        (Words(["top secret"]), "TOP \n secret topsecret", ["TOP \n secret"]),
        (Words(["秘密"]), "这是秘密的", ["秘密"]),
        (Words(["fi"]), "ﬁ", ["ﬁ"]),
        (Patterns([r"\bakia[0-9A-Z]{4}\b", "(a)b"]), "AKIA12Z4 ab", ["AKIA12Z4", "ab"]),
        (Personal(["e-mail"]), "x@y.org and 2001:db8::1", ["x@y.org"]),
        (Personal(KINDS), "a" * 5000 + " x@y.org " + "b" * 5000, ["x@y.org"]),
    ],
)
def test_what_is_found(finder: Words | Patterns | Personal, text: str, found: list[str]) -> None:
    plain = Plain(text)
    places = list(finder.find(plain.text))
    assert [text[plain.origin(begin) : plain.origin_of_end(end)] for begin, end, _ in places] == found


def pieces_of(text: str, dice: random.Random) -> list[list[Piece]]:
    """The text in pieces, some of them together, some empty."""
    bunches: list[list[Piece]] = [[]]
    while text:
        size = dice.choice((0, 1, 1, 2, 3, 9))
        bunches[-1].append(Piece(token_id=7, text=text[:size], logprob=-1.0))
        text = text[size:]
        if dice.random() < 0.7:
            bunches.append([])
    bunches[-1].append(Piece(token_id=7, text="", logprob=-1.0, finish_reason="stop"))
    return [bunch for bunch in bunches if bunch]


TEXT = (
    "It is called blue\u200bbird, or BLUEBIRD; write to Anna.Maria@mail.example.org! Or call +49 30 1234 5678 9. "
    "She was born on 12 March 1980, and the bluebirds' key is AKIA99 or akia1234 (a top   secret one). "
) * 3
CLEAN = (
    "It is called [r], or [r]; write to [e-mail]! Or call [phone]. "
    "She was born on [date of birth], and the bluebirds' key is AKIA99 or [r] (a [r] one). "
) * 3


@pytest.mark.parametrize("seed", range(12))
def test_however_a_stream_is_cut_what_is_sent_is_masked(tmp_path: Path, seed: int) -> None:
    rules = [
        rule('words = ["Bluebird", "top secret"]', tmp_path),
        rule(r"patterns = ['akia\d{4}']", tmp_path),
        rule('personal_data = ["e-mail", "phone", "date of birth"]', tmp_path),
    ]
    check = SaidCheck(rules, "", quiet_id=0)
    sent = [piece for bunch in pieces_of(TEXT, random.Random(seed)) for piece in check.push(bunch).pieces]
    assert "".join(piece.text for piece in sent) == CLEAN
    assert {(piece.token_id, piece.logprob) for piece in sent} == {(0, 0.0)} and sent[-1].finish_reason == "stop"


@pytest.mark.parametrize("seed", range(4))
def test_what_a_rule_refuses_is_never_sent_nor_what_follows(tmp_path: Path, seed: int) -> None:
    check = SaidCheck([rule('words = ["AKIA1234"]', tmp_path, action="refuse")], "", quiet_id=0)
    said = ""
    for bunch in pieces_of(TEXT, random.Random(seed)):
        outcome = check.push(bunch)
        said += "".join(piece.text for piece in outcome.pieces)
        if outcome.refused is not None:
            break
    assert said == TEXT[: TEXT.index("akia1234")]


@pytest.mark.parametrize(("before", "sent"), [("It is a blue", "[r] there"), ("It is a true", "bird there")])
def test_the_first_half_of_a_word_in_the_prompt_brings_no_second(tmp_path: Path, before: str, sent: str) -> None:
    check = SaidCheck([rule('words = ["Bluebird"]', tmp_path)], before, quiet_id=0)
    bunches = pieces_of("bird there", random.Random(1))
    assert "".join(piece.text for bunch in bunches for piece in check.push(bunch).pieces) == sent


def test_a_rule_that_wants_the_whole_sends_nothing_before(tmp_path: Path) -> None:
    check = SaidCheck([rule('patterns = ["(?s)begin.*end"]', tmp_path, more='hold = "all"')], "", quiet_id=0)
    bunches = pieces_of("x begin a lot end y" * 20, random.Random(2))
    outcomes = [check.push(bunch) for bunch in bunches]
    assert not any(outcome.pieces for outcome in outcomes[:-1])
    assert "".join(piece.text for piece in outcomes[-1].pieces) == "x [r] y"


def test_a_rule_that_only_notes_changes_nothing(tmp_path: Path) -> None:
    check = SaidCheck([rule('words = ["Bluebird"]', tmp_path, action="log")], "", quiet_id=0)
    bunches = pieces_of(TEXT, random.Random(3))
    outcomes = [check.push(bunch) for bunch in bunches]
    assert [outcome.pieces for outcome in outcomes] == bunches, "and holds nothing back"
    sent = [piece for outcome in outcomes for piece in outcome.pieces]
    assert "".join(piece.text for piece in sent) == TEXT and {piece.token_id for piece in sent} == {7}
    assert [one.text.lower() for outcome in outcomes for one in outcome.decisions] == ["blue\u200bbird", "bluebird"] * 3


def test_ids_are_masked_between_special_tokens_and_kept_elsewhere(tmp_path: Path, workshop: Path) -> None:
    tokenizer = Tokenizer.load(workshop / "chat")
    check = AskedCheck([rule('words = ["Bluebird"]', tmp_path, where="input")])
    special = tokenizer.special["<|im_end|>"]
    first, second = tokenizer.encode("nothing here"), tokenizer.encode("a bluebird <|im_end|>")
    found = check.ids([special, *first, special, *second, special], tokenizer)
    assert found[: len(first) + 2] == [special, *first, special] and found[-1] == special
    # What the text says of a special token stays text.
    assert found.count(special) == 3 and tokenizer.decode(found[len(first) + 2 : -1]) == "a [r] <|im_end|>"


def test_a_hostile_text_takes_no_time() -> None:
    text = "a" * 200_000
    assert list(Patterns(["(a+)+b", "(?:a|aa)+c"]).find(text)) == []
