"""Generation: the cache, batch mates, seeds, padding and ends change nothing that they should not."""

import pytest
import torch

from cached_reading import CachedTexts, in_pieces
from ownlm.engine import Engine, EngineConfig, Piece, Request, Sampling, complete, stream
from ownlm.model import Decoder
from ownlm.tokenizer import Tokenizer
from tiny_models import random_decoder, random_ids, tiny_tokenizer

ENDS: list[int] = []


@pytest.fixture(scope="module")
def model() -> Decoder:
    return random_decoder(seed=1).eval()


@torch.inference_mode()
def test_cached_logits_equal_uncached_at_every_split(model: Decoder) -> None:
    ids = torch.tensor([random_ids(34, seed=3)])
    whole = model(ids)
    for split in range(1, 34):
        torch.testing.assert_close(in_pieces(model, ids, (split, 34 - split)), whole, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(in_pieces(model, ids, (1,) * 34), whole, rtol=1e-5, atol=1e-5)


@torch.inference_mode()
@pytest.mark.parametrize("scattered", [False, True])
def test_texts_of_one_step_see_themselves_alone(model: Decoder, scattered: bool) -> None:
    """A token of one, a piece of another, the whole of a third, and a fourth that waits."""
    texts = [random_ids(length, seed=length) for length in (40, 30, 9, 20)]
    cached = CachedTexts(model, 4, most=48, scattered=scattered)
    first = cached.read([texts[0][:39], texts[1][:17], [], texts[3]])
    second = cached.read([texts[0][39:], texts[1][17:], texts[2], []])
    for text, *parts in zip(texts, first, second, strict=True):
        torch.testing.assert_close(torch.cat(parts), model(torch.tensor([text]))[0], rtol=1e-5, atol=1e-5)


@torch.inference_mode()
def test_a_cache_that_is_set_back_goes_on_as_if_the_rest_had_never_been(model: Decoder) -> None:
    """An edit of the prompt, or guesses that were wrong: what came after it must not be seen again."""
    old, new = random_ids(40, seed=1), random_ids(40, seed=2)
    cached = CachedTexts(model, 1, most=60)
    cached.read([old])
    cached.lengths = [5]
    whole = model(torch.tensor([old[:5] + new[:11]]))[0, 5:]
    torch.testing.assert_close(cached.read([new[:11]])[0], whole, rtol=1e-5, atol=1e-5)


PROMPTS = [random_ids(length, seed=length + 50) for length in (3, 17, 1, 9, 4, 30)]


@pytest.mark.parametrize(
    "settings",
    [
        {"temperature": 0.0},
        {"temperature": 1.0, "seed": 7},
        {"temperature": 0.7, "seed": 3, "top_k": 5},
        {"temperature": 1.2, "seed": 1, "top_p": 0.8, "min_p": 0.01, "repetition_penalty": 1.3},
    ],
)
@pytest.mark.parametrize("batch", [2, 32])
def test_batch_mates_change_no_answer(model: Decoder, settings: dict[str, float], batch: int) -> None:
    requests = [Request(prompt=prompt, sampling=Sampling(max_tokens=12, **settings)) for prompt in PROMPTS]
    alone = [complete(Engine(model, tiny_tokenizer(), ENDS), [request])[0] for request in requests]
    together = complete(Engine(model, tiny_tokenizer(), ENDS, EngineConfig(max_sequences=batch)), requests)
    assert [done.token_ids for done in together] == [done.token_ids for done in alone]
    assert [done.text for done in together] == [done.text for done in alone]
    for ours, theirs in zip(together, alone, strict=True):
        assert ours.log_probabilities == pytest.approx(theirs.log_probabilities, abs=1e-4)


def test_greedy_is_the_largest_logit_of_the_whole_text_each_time(model: Decoder) -> None:
    """The engine against a loop without cache, batch or sampler."""
    tokenizer = tiny_tokenizer()
    # Special tokens other than the ends are the template's to put, never the model's.
    never = sorted(set(tokenizer.special.values()) - set(ENDS))
    for prompt in PROMPTS[:3]:
        ids = list(prompt)
        with torch.inference_mode():
            for _ in range(10):
                logits_V = model(torch.tensor([ids]))[0, -1, : tokenizer.vocab_size]
                logits_V[never] = -torch.inf
                ids.append(int(logits_V.argmax()))
        request = Request(prompt=prompt, sampling=Sampling(max_tokens=10, temperature=0))
        assert complete(Engine(model, tokenizer, ENDS), [request])[0].token_ids == ids[len(prompt) :]


def test_the_same_seed_draws_the_same_and_another_does_not(model: Decoder) -> None:
    def draw(seed: int | None) -> list[int]:
        request = Request(prompt=PROMPTS[0], sampling=Sampling(max_tokens=16, temperature=1.5, seed=seed))
        return complete(Engine(model, tiny_tokenizer(), ENDS), [request])[0].token_ids

    assert draw(5) == draw(5) != draw(6)
    state = torch.get_rng_state()
    draw(5)
    draw(None)
    assert torch.equal(torch.get_rng_state(), state), "generation must not touch the global generator"


def favour(model: Decoder, favoured: dict[int, float]) -> Decoder:
    """The decoder with an untied head that scores only `favoured`, whatever was read."""
    rigged = random_decoder(seed=1, tie_word_embeddings=False).eval()

    def head(hidden: torch.Tensor) -> torch.Tensor:
        logits = torch.full((*hidden.shape[:-1], rigged.config.vocab_size), -50.0)
        for id, value in favoured.items():
            logits[..., id] = value
        return logits

    rigged.head = head  # type: ignore[method-assign]
    return rigged


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_ids_that_only_pad_the_vocabulary_are_never_drawn(model: Decoder, temperature: float) -> None:
    tokenizer = tiny_tokenizer()
    assert tokenizer.padded_vocab_size > tokenizer.vocab_size
    padding = dict.fromkeys(range(tokenizer.vocab_size, tokenizer.padded_vocab_size), 100.0)
    rigged = favour(model, padding | {7: 1.0})
    sampling = Sampling(max_tokens=20, temperature=temperature, seed=0)
    done = complete(Engine(rigged, tokenizer, ENDS), [Request(prompt=[1], sampling=sampling)])[0]
    assert max(done.token_ids) < tokenizer.vocab_size


def scripted(ids: list[int]) -> Decoder:
    """A decoder that says `ids`, one after another, whatever was read: the prompt is one token."""
    model = random_decoder(seed=1).eval()

    def head(hidden: torch.Tensor) -> torch.Tensor:
        logits = torch.zeros(len(hidden), model.config.vocab_size)
        logits[:, ids[spoken[0]]] = 100.0
        spoken[0] += 1
        return logits

    spoken = [0]
    model.head = head  # type: ignore[method-assign]
    return model


def spell(tokenizer: Tokenizer, text: bytes) -> list[int]:
    """The text byte by byte: every character of more than one byte is cut."""
    by_bytes = {tokenizer.token_bytes(id): id for id in range(tokenizer.vocab_size)}
    return [by_bytes[bytes([byte])] for byte in text]


def pieces_of(text: bytes, **settings: object) -> list[Piece]:
    tokenizer = tiny_tokenizer()
    ids = [*spell(tokenizer, text), tokenizer.end_of_text_id]
    sampling = Sampling(temperature=0, **settings)  # type: ignore[arg-type]
    engine = Engine(scripted(ids), tokenizer, [tokenizer.end_of_text_id])
    return list(stream(engine, Request(prompt=[1], sampling=sampling)))


def say(text: bytes, **settings: object) -> tuple[list[str], str]:
    pieces = pieces_of(text, **settings)
    return [piece.text for piece in pieces], str(pieces[-1].finish_reason)


def test_a_character_over_several_tokens_comes_whole() -> None:
    pieces, reason = say("aé中🎹b".encode())
    assert pieces == ["a", "", "é", "", "", "中", "", "", "", "🎹", "b", ""]
    assert reason == "stop"


def test_a_character_that_is_cut_off_by_the_end_is_a_replacement() -> None:
    assert "".join(say("né".encode()[:2])[0]) == "n\ufffd"
    pieces, reason = say("né".encode(), max_tokens=2)
    assert ("".join(pieces), reason) == ("n\ufffd", "length")


@pytest.mark.parametrize(
    ("text", "stop", "expected", "reason"),
    [
        ("Hello\nUser: hi", ("\nUser:",), "Hello", "stop"),
        ("Hello\nUse", ("\nUser:",), "Hello\nUse", "stop"),
        ("aab ends", ("ab",), "a", "stop"),
        ("one two", ("two", "ne"), "o", "stop"),
        ("naïve é!", ("é",), "naïve ", "stop"),
        ("nothing of it", ("zz",), "nothing of it", "stop"),
        ("", ("zz",), "", "stop"),
    ],
)
def test_a_stop_string_over_several_tokens(text: str, stop: tuple[str, ...], expected: str, reason: str) -> None:
    pieces, why = say(text.encode(), stop=stop)
    assert ("".join(pieces), why) == (expected, reason)


def test_the_last_piece_names_the_stop_string_that_ended_it() -> None:
    stops = [piece.stop for piece in pieces_of(b"one two", stop=("two", "ne"))]
    assert stops == [None, None, "ne"]
    assert {piece.stop for piece in pieces_of(b"one two", stop=("three",))} == {None}


def test_held_back_text_is_given_when_the_length_ends_it() -> None:
    pieces, reason = say(b"Hello\nUser", stop=("\nUser:",), max_tokens=8)
    assert ("".join(pieces), reason) == ("Hello\nUs", "length")


def test_no_text_comes_before_it_is_certain() -> None:
    pieces, _ = say(b"ab\nUxyz", stop=("\nUser:",))
    assert pieces == ["a", "b", "", "", "\nUx", "y", "z", ""]


def test_ignore_eos_goes_on() -> None:
    tokenizer = tiny_tokenizer()
    end = tokenizer.end_of_text_id
    for ignore, expected in ((False, "a"), (True, "a<|endoftext|>b")):
        ids = [*spell(tokenizer, b"a"), end, *spell(tokenizer, b"b")]
        sampling = Sampling(temperature=0, max_tokens=3, ignore_eos=ignore)
        done = complete(Engine(scripted(ids), tokenizer, [end]), [Request(prompt=[1], sampling=sampling)])[0]
        assert done.text == expected
        assert done.token_ids == ids[: 3 if ignore else 2]


def test_generation_leaves_the_mode_and_ends_at_the_context(model: Decoder) -> None:
    limit = model.config.max_position_embeddings
    request = Request(prompt=random_ids(limit - 5), sampling=Sampling(max_tokens=99, temperature=0))
    done = complete(Engine(model, tiny_tokenizer(), ENDS), [request])[0]
    assert len(done.token_ids) == 5 and done.finish_reason == "length"
    assert not model.training
