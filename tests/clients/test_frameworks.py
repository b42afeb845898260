"""(peers) LangChain, LiteLLM, llm and instructor, unchanged, each asked for what its users ask of it."""

import gc
import importlib
import json
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pytest
from pydantic import BaseModel, ConfigDict

pytestmark = [
    pytest.mark.peers,
    # Theirs: deprecated calls, sockets that they leave to the collector.
    pytest.mark.filterwarnings("ignore"),
]


@pytest.fixture(autouse=True)
def collected() -> Iterator[None]:
    """What they leave open is closed here, and not in somebody else's test."""
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        gc.collect()


class Weather(BaseModel):
    """The weather in a city."""

    # Else a model may write fields of its own without end.
    model_config = ConfigDict(extra="forbid")
    city: Literal["Rome", "Bern"]


def needs(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        pytest.skip(f"announced: {name} cannot be imported here: {type(error).__name__}")


@pytest.mark.parametrize("dialect", ["chat", "responses", "anthropic"])
def test_langchain(served: Any, dialect: str) -> None:
    if dialect == "anthropic":
        module = needs("langchain_anthropic")
        model = module.ChatAnthropic(
            model=served.model, base_url=served.server.url, api_key=served.key, max_tokens=400, max_retries=0
        )
    else:
        if dialect == "responses" and served.model != "chat":
            pytest.skip("announced: the server with SmolLM2 keeps no responses")
        module = needs("langchain_openai")
        model = module.ChatOpenAI(
            model=served.model,
            base_url=served.v1,
            api_key=served.key,
            max_tokens=400,
            temperature=0,
            max_retries=0,
            use_responses_api=dialect == "responses",
        )
    messages = needs("langchain_core.messages")
    asked = [messages.SystemMessage("Be kind."), messages.HumanMessage("Who are you?")]
    whole = model.invoke(asked)
    assert whole.text and whole.usage_metadata["output_tokens"] > 0
    chunks = list(model.stream(asked))
    assert len(chunks) > 1 and "".join(chunk.text for chunk in chunks)
    called = model.bind_tools([Weather], tool_choice="Weather").invoke(asked)
    (call,) = called.tool_calls
    assert call["name"] == "Weather" and call["args"]["city"] in ("Rome", "Bern")
    back = [*asked, called, messages.ToolMessage("Rain.", tool_call_id=call["id"])]
    assert model.bind_tools([Weather]).invoke(back) is not None
    assert isinstance(model.with_structured_output(Weather).invoke(asked), Weather)


def test_langchain_embeds(served: Any) -> None:
    # It counts tokens by tiktoken, whose tables are downloaded, unless it is told not to.
    embedder = needs("langchain_openai").OpenAIEmbeddings(
        model=served.model, base_url=served.v1, api_key=served.key, check_embedding_ctx_length=False
    )
    first, second = embedder.embed_documents(["The cat", "A dog"])
    assert len(first) == len(second) and first != second


@pytest.mark.parametrize("dialect", ["openai", "text-completion-openai", "anthropic"])
def test_litellm(served: Any, dialect: str) -> None:
    litellm = needs("litellm")
    litellm.suppress_debug_info = True
    where = {"api_base": served.server.url if dialect == "anthropic" else served.v1, "api_key": served.key}
    asked: dict[str, Any] = {
        "model": f"{dialect}/{served.model}",
        "messages": [{"role": "user", "content": "Who are you?"}],
        "max_tokens": 12,
        "temperature": 0,
        **where,
    }
    whole = litellm.completion(**asked)
    assert whole.choices[0].finish_reason in ("stop", "length") and whole.usage.total_tokens
    chunks = list(litellm.completion(**asked, stream=True, stream_options={"include_usage": True}))
    assert litellm.stream_chunk_builder(chunks).choices[0].message.content == whole.choices[0].message.content
    if dialect != "text-completion-openai":
        tool = {"type": "function", "function": {"name": "weather", "parameters": Weather.model_json_schema()}}
        found = litellm.completion(**asked | {"max_tokens": 400}, tools=[tool], tool_choice="required")
        (call,) = found.choices[0].message.tool_calls
        assert json.loads(call.function.arguments)["city"] in ("Rome", "Bern")
    with pytest.raises(litellm.NotFoundError):
        litellm.completion(**asked | {"model": f"{dialect}/none"})


def test_llm(served: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLM_USER_PATH", str(tmp_path))
    entry = {"model_id": "ours", "model_name": served.model, "api_base": served.v1, "api_key_name": "ours"}
    # JSON is YAML.
    (tmp_path / "extra-openai-models.yaml").write_text(json.dumps([entry | {"supports_schema": True}]))
    (tmp_path / "keys.json").write_text(json.dumps({"ours": served.key}))
    model = needs("llm").get_model("ours")
    options = {"temperature": 0, "max_tokens": 400}
    said = model.prompt("Who are you?", system="Be kind.", **options)
    assert said.text() and said.usage().output > 0
    assert model.prompt("Who are you?", stream=False, system="Be kind.", **options).text() == said.text()
    assert json.loads(model.prompt("Which city?", schema=Weather, **options).text())["city"] in ("Rome", "Bern")
    assert model.conversation().prompt("Who are you?", **options).text()


@pytest.mark.parametrize("mode", ["TOOLS", "JSON_SCHEMA", "JSON"])
def test_instructor(served: Any, mode: str) -> None:
    instructor, openai = needs("instructor"), needs("openai")
    if not hasattr(instructor, "from_openai"):
        pytest.skip("announced: this instructor is too old")
    plain = openai.OpenAI(base_url=served.v1, api_key=served.key, max_retries=0)
    client = instructor.from_openai(plain, mode=getattr(instructor.Mode, mode))
    asked: dict[str, Any] = {
        "model": served.model,
        "messages": [{"role": "user", "content": "Which city?"}],
        "max_tokens": 400,
        "temperature": 0,
        "max_retries": 0,
    }
    if mode == "JSON":
        # No schema holds the answer there: a small model need not give what was meant.
        with pytest.raises(Exception, match=r"(?i)valid|retries|city|length|incomplete"):
            found = client.chat.completions.create(**asked, response_model=Weather)
            raise ValueError(f"valid: {found.city}")
        return
    assert client.chat.completions.create(**asked, response_model=Weather).city in ("Rome", "Bern")
