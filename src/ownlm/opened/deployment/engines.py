"""The engines that a model is exported for: image, command, key, and how each says that it is well.

Every option stands in the engine's own documentation. Images are pinned to tags that its makers have published; a
later one may do as well, and is the operator's to choose.
"""

from collections.abc import Mapping
from dataclasses import dataclass

# Answers side by side; llama-server shares its --ctx-size out among them.
LLAMACPP_SLOTS = 4


@dataclass(frozen=True, kw_only=True)
class Place:
    """How the command is told where things are: in a container, or in run.sh, where a shell fills words in."""

    model: str
    host: str
    port: str
    key: str
    program: str | None = None


@dataclass(frozen=True, kw_only=True)
class Served:
    """`sampling`: what the model's makers suggest, by our names."""

    name: str
    context: int
    sampling: Mapping[str, float | int]


@dataclass(frozen=True, kw_only=True)
class Engine:
    """`key_variable`: the environment variable that it reads its key from; None: it is told on its line, or has none.

    `health`: the path that answers 200 when it is ready.
    """

    name: str
    called: str
    image: str
    port: int
    health: str
    site: str
    when: str
    gguf: bool = False
    gpu: bool = False
    has_keys: bool = True
    key_variable: str | None = None

    def command(self, served: Served, place: Place) -> list[str]:
        return _COMMANDS[self.name](served, place)


def _vllm(served: Served, place: Place) -> list[str]:
    return [
        *("vllm", "serve", place.model, "--served-model-name", served.name),
        *("--max-model-len", str(served.context), "--host", place.host, "--port", place.port),
    ]


def _sglang(served: Served, place: Place) -> list[str]:
    return [
        *("python3", "-m", "sglang.launch_server", "--model-path", place.model, "--served-model-name", served.name),
        *("--context-length", str(served.context), "--host", place.host, "--port", place.port),
        *("--api-key", place.key, "--enable-metrics"),
    ]


_LLAMACPP_SAMPLING = {
    "temperature": "--temp",
    "top_k": "--top-k",
    "top_p": "--top-p",
    "min_p": "--min-p",
    "repetition_penalty": "--repeat-penalty",
}


def _llamacpp(served: Served, place: Place) -> list[str]:
    suggested = [
        part
        for name, option in _LLAMACPP_SAMPLING.items()
        if name in served.sampling
        for part in (option, f"{served.sampling[name]:g}")
    ]
    return [
        *(place.program or "llama-server", "--model", f"{place.model}/model.gguf", "--alias", served.name),
        *("--ctx-size", str(served.context * LLAMACPP_SLOTS), "--parallel", str(LLAMACPP_SLOTS)),
        *("--host", place.host, "--port", place.port, "--jinja", "--metrics", *suggested),
    ]


def ollama_script(served: Served, model: str) -> str:
    """Ollama takes a model in while it runs; told to end, both end."""
    return (
        "ollama serve & server=$!; trap 'kill $server' TERM INT; "
        "until ollama list >/dev/null 2>&1; do sleep 1; done; "
        f"ollama create {served.name} -f {model}/Modelfile; wait $server"
    )


def _ollama(served: Served, place: Place) -> list[str]:
    return ["/bin/sh", "-c", ollama_script(served, place.model)]


_COMMANDS = {"vllm": _vllm, "sglang": _sglang, "llamacpp": _llamacpp, "ollama": _ollama}
ENGINES = {
    engine.name: engine
    for engine in (
        Engine(
            name="vllm",
            called="vLLM",
            image="vllm/vllm-openai:v0.18.0",
            port=8000,
            health="/health",
            site="https://docs.vllm.ai",
            when="many people ask at once and there is a graphics card: its batches are large, and several cards or "
            "machines can hold one model",
            gpu=True,
            key_variable="VLLM_API_KEY",
        ),
        Engine(
            name="sglang",
            called="SGLang",
            image="lmsysorg/sglang:v0.5.18",
            port=30_000,
            health="/health",
            site="https://docs.sglang.ai",
            when="many people ask at once, there is a graphics card, and prompts begin alike: agents, long system "
            "messages, few-shot examples",
            gpu=True,
        ),
        Engine(
            name="llamacpp",
            called="llama.cpp",
            image="ghcr.io/ggml-org/llama.cpp:server-b11176",
            port=8080,
            health="/health",
            site="https://github.com/ggml-org/llama.cpp/tree/master/tools/server",
            when="there is no large graphics card, or none: a laptop, a small server, a Mac, a phone",
            gguf=True,
            key_variable="LLAMA_API_KEY",
        ),
        Engine(
            name="ollama",
            called="Ollama",
            image="ollama/ollama:0.18.2",
            port=11_434,
            health="/api/version",
            site="https://docs.ollama.com",
            when="it runs on the machine already, or a program is to be used that knows no other. It has no keys: keep "
            "it to its own machine, or put a proxy that asks for one in front",
            gguf=True,
            has_keys=False,
        ),
    )
}
