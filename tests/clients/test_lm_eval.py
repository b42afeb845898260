"""(peers) lm-eval's local-completions and local-chat-completions, unchanged: log-likelihoods are the offline ones."""

from pathlib import Path
from typing import Any

import pytest

from ownlm.engine.score import token_log_likelihoods
from ownlm.opened import convert

pytestmark = [
    pytest.mark.peers,
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.parametrize("served", ["workshop", "exact"], indirect=True, scope="session"),
]

PAIRS = [
    ("The cat", " sat on a mat."),
    ("The cat", " ran."),
    ("Who are you?", " A dog, é and so on."),
    ("", "The cat sat on a mat."),
]
# In nats, of a continuation's sum.
NEAR = 1e-4


def peer(served: Any, kind: str, monkeypatch: pytest.MonkeyPatch, **more: Any) -> Any:
    try:
        from lm_eval.models import openai_completions
    except ImportError as error:
        pytest.skip(f"announced: lm-eval is not installed with its api extra: {error.name}")
    monkeypatch.setenv("OPENAI_API_KEY", served.key)
    path = "completions" if kind == "LocalCompletionsAPI" else "chat/completions"
    return getattr(openai_completions, kind)(
        base_url=f"{served.v1}/{path}", model=served.model, max_length=512, max_retries=1, **more
    )


def asked(*arguments: Any) -> Any:
    from lm_eval.api.instance import Instance

    return Instance(request_type="x", doc={}, arguments=arguments, idx=0)


@pytest.mark.parametrize(("tokenizer", "batch"), [("remote", 1), ("huggingface", 4)])
def test_log_likelihoods_are_the_offline_ones(
    served: Any, tokenizer: str, batch: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    more: dict[str, Any] = {"tokenizer_backend": tokenizer, "batch_size": batch}
    if tokenizer == "remote":
        more["auth_token"] = served.key
    elif served.model == "chat":
        more["tokenizer"] = str(served.folder)
    else:
        convert("smollm2", tmp_path / "folder")
        more["tokenizer"] = str(tmp_path / "folder")
    model = peer(served, "LocalCompletionsAPI", monkeypatch, **more)
    assert model.tokenized_requests
    found = model.loglikelihood([asked(*pair) for pair in PAIRS], disable_tqdm=True)
    ours = served.opened
    end = model.prefix_token_id
    assert end in ours.tokenizer.special.values()
    for (context, continuation), (nats, greedy) in zip(PAIRS, found, strict=True):
        whole = ours.tokenizer.encode(context + continuation)
        prompt = ours.tokenizer.encode(context) or [end]
        rest = whole[len(prompt) :] if context else whole
        (offline,) = token_log_likelihoods(ours.decoder, [(prompt, rest)])
        assert nats == pytest.approx(sum(offline), abs=NEAR) and isinstance(greedy, bool)


def test_rolling_and_until(served: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    model = peer(served, "LocalCompletionsAPI", monkeypatch, tokenizer_backend="remote", auth_token=served.key)
    (nats,) = model.loglikelihood_rolling([asked("The cat sat on a mat.")], disable_tqdm=True)
    ids = served.opened.tokenizer.encode("The cat sat on a mat.")
    (offline,) = token_log_likelihoods(served.opened.decoder, [([model.prefix_token_id], ids)])
    assert nats == pytest.approx(sum(offline), abs=NEAR)
    (text,) = model.generate_until([asked("The cat", {"until": ["."], "max_gen_toks": 12})], disable_tqdm=True)
    assert isinstance(text, str) and "." not in text


def test_chat(served: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from lm_eval.models.api_models import JsonChatStr

    model = peer(served, "LocalChatCompletion", monkeypatch, auth_token=served.key)
    said = JsonChatStr('[{"role": "user", "content": "Who are you?"}]')
    settings = {"until": ["\n\n"], "max_gen_toks": 12, "do_sample": False}
    (text,) = model.generate_until([asked(said, settings)], disable_tqdm=True)
    messages = [{"role": "user", "content": "Who are you?"}]
    body = {"model": served.model, "messages": messages, "max_tokens": 12, "temperature": 0, "stop": ["\n\n"]}
    answer = served.server.post("/v1/chat/completions", body, headers={"x-api-key": served.key})
    assert text == answer.json()["choices"][0]["message"]["content"]
