"""`ownlm export-deploy`: folders that other engines open, and what cannot be exported."""

import importlib.util
import re
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import jinja2
import pytest
from ruamel.yaml import YAML

from ownlm.cli.main import run as ownlm
from ownlm.errors import OwnlmError
from ownlm.opened import convert, load, read_files
from ownlm.opened.deployment.engines import ENGINES
from ownlm.opened.deployment.export import export_deployment, label
from ownlm.opened.deployment.ollama import modelfile
from ownlm.tokenizer import ModelTemplate

OPTION = re.compile(r"^--[a-z-]+$")
# By the engines' own documentation.
OPTIONS = {
    "vllm": {"--served-model-name", "--max-model-len", "--host", "--port"},
    "sglang": {
        *("--model-path", "--served-model-name", "--context-length"),
        *("--host", "--port", "--api-key", "--enable-metrics"),
    },
    "llamacpp": {"--model", "--alias", "--ctx-size", "--parallel", "--host", "--port", "--jinja", "--metrics"},
    "ollama": set[str](),
}
CHATML = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
OPEN = "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
WITH_DEFAULT = "{% if messages[0].role != 'system' %}<|im_start|>system\nBe {{ '{{' }} kind.<|im_end|>\n{% endif %}"


def exported(workshop: Path, folder: Path, engine: str, **more: Any) -> Path:
    return export_deployment(engine, workshop / "chat", folder / engine, name="Mine-1.0", **more).path


def yaml(path: Path) -> list[dict[str, Any]]:
    return list(YAML(typ="safe").load_all(path))


@pytest.mark.parametrize("engine", ENGINES)
def test_a_folder_holds_the_model_and_how_it_is_served(workshop: Path, tmp_path: Path, engine: str) -> None:
    folder = exported(workshop, tmp_path, engine, context=48)
    facts = ENGINES[engine]
    model = folder / "model" / "model.gguf" if facts.gguf else folder / "model"
    ids = load(workshop / "chat").tokenizer.encode("def f(x):")
    before, after = load(workshop / "chat", dtype="float32"), load(model, dtype="float32")
    assert after.logits(ids).argmax(-1).tolist() == before.logits(ids).argmax(-1).tolist()
    assert after.template is not None

    [compose] = yaml(folder / "compose.yaml")
    [(called, service)] = compose["services"].items()
    deployment, exposed = yaml(folder / "kubernetes" / "server.yaml")
    [container] = deployment["spec"]["template"]["spec"]["containers"]
    assert called == deployment["metadata"]["name"] == exposed["metadata"]["name"] == "mine-1-0"
    assert service["image"] == container["image"] == facts.image and "latest" not in facts.image
    assert {"startupProbe", "readinessProbe", "livenessProbe"} <= container.keys()
    command = [*service["entrypoint"], *service["command"]]
    if engine != "ollama":
        assert [part.replace("$(API_KEY)", "${API_KEY}") for part in container["command"]] == command
        assert {part for part in command if OPTION.match(part)} == OPTIONS[engine]
        assert "Mine-1.0" in command
        assert [one["valueFrom"]["secretKeyRef"]["name"] for one in container["env"]] == ["mine-1-0-key"]
        assert "${API_KEY:?" in next(iter(service["environment"].values()))
    claimed = {claim["metadata"]["name"] for claim in yaml(folder / "kubernetes" / "volume.yaml")}
    assert deployment["spec"]["template"]["spec"]["volumes"][0]["persistentVolumeClaim"]["claimName"] in claimed

    line = (folder / "run.sh").read_text()
    assert {part for part in line.split() if OPTION.match(part)} == OPTIONS[engine]
    assert subprocess.run(["sh", "-n", folder / "run.sh"]).returncode == 0
    readme = (folder / "README.md").read_text()
    assert "untried here" in readme and facts.image in readme and str(48) in readme
    if facts.has_keys:
        bare = subprocess.run([folder / "run.sh"], env={"PATH": "/usr/bin:/bin"}, capture_output=True, text=True)
        assert bare.returncode != 0 and "set API_KEY" in bare.stderr


@pytest.mark.skipif(
    importlib.util.find_spec("kubernetes_validate") is None, reason="announced: kubernetes-validate is not installed"
)
@pytest.mark.parametrize("engine", ENGINES)
def test_kubernetes_knows_every_field(workshop: Path, tmp_path: Path, engine: str) -> None:
    import kubernetes_validate

    folder = exported(workshop, tmp_path, engine)
    for path in (folder / "kubernetes").iterdir():
        for one in yaml(path):
            kubernetes_validate.validate(one, "1.30", strict=True)


@pytest.mark.parametrize(
    ("name", "found"), [("Qwen3-0.6B", "qwen3-0-6b"), ("1.5", "model-1-5"), ("On", "model-on"), ("7_", "model-7")]
)
def test_a_name_becomes_one_for_kubernetes(name: str, found: str) -> None:
    assert label(name) == found


def test_a_gguf_file_stays_as_it_is(workshop: Path, tmp_path: Path) -> None:
    source = convert(workshop / "chat", tmp_path / "mine.gguf", quantization="q4_0").path
    done = export_deployment("llamacpp", source, tmp_path / "out", name="mine")
    assert (done.path / "model" / "model.gguf").read_bytes() == source.read_bytes()


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--to", "there"], "there exists already; name another --to, or add --force"),
        (["--to", "new", "--context", "65"], "the model reads up to 64 tokens"),
        (["--to", "new", "--name", "a;b"], "letters, digits"),
        (["--to", "new", "--quantization", "q9"], "choose one of F32, F16, BF16"),
        (["--to", "."], "names no new file or folder"),
    ],
)
def test_what_cannot_be_exported_is_one_line(
    workshop: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    told: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there").mkdir()
    assert ownlm(["export-deploy", "vllm", str(workshop / "chat"), *options]) == 2
    assert told in " ".join(capsys.readouterr().err.split())
    assert [path.name for path in tmp_path.iterdir()] == ["there"] and not list((tmp_path / "there").iterdir())


def test_force_moves_aside_and_a_name_is_found(
    workshop: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "mine").touch()
    command = ["export-deploy", "ollama", str(workshop / "base"), "--to", str(tmp_path / "there"), "--force"]
    assert ownlm(command) == 0
    assert "is now at" in capsys.readouterr().out and (tmp_path / "there.old" / "mine").exists()
    assert "{{ .Prompt }}" in (tmp_path / "there" / "model" / "Modelfile").read_text()


@pytest.mark.parametrize("template", [CHATML + OPEN, WITH_DEFAULT + CHATML + OPEN])
def test_ollama_writes_what_the_template_writes(workshop: Path, template: str) -> None:
    files = read_files(workshop / "chat")
    files = replace(files, template=ModelTemplate(template, files.tokenizer))
    told = modelfile(files, context=64, sampling={"temperature": 0.6, "repetition_penalty": 1.1})
    assert 'PARAMETER stop "<|im_end|>"\n' in told and "PARAMETER repeat_penalty 1.1\n" in told
    # Of Go's templates no more is used than has a like in Jinja.
    go = told.split('"""')[1]
    for there, here in {
        "{{ if .System }}": "{% if system %}",
        "{{ .System }}": "{{ system }}",
        "{{ else }}": "{% else %}",
        "{{ range .Messages }}": "{% for m in messages %}",
        '{{ if eq .Role "user" }}': "{% if m.role == 'user' %}",
        '{{ else if eq .Role "assistant" }}': "{% elif m.role == 'assistant' %}",
        "{{ .Content }}": "{{ m.content }}",
    }.items():
        go = go.replace(there, here)
    ends = iter(["{% endif %}", "{% endif %}", "{% endfor %}"])
    go = re.sub(re.escape("{{ end }}"), lambda _: next(ends), go)
    talk = [{"role": role, "content": role.upper()} for role in ("user", "assistant", "user")]
    render = jinja2.Environment(keep_trailing_newline=True).from_string(go).render
    assert isinstance(files.template, ModelTemplate)
    for system in ("", "Be brief."):
        whole = [*([{"role": "system", "content": system}] if system else []), *talk]
        assert render(system=system, messages=whole) == files.template.text(whole, True)


@pytest.mark.parametrize(
    "template",
    [
        "{{ raise_exception('no system') if messages[0].role == 'system' }}" + CHATML + OPEN,
        # The system message in the first question, as Gemma has it.
        "{% for m in messages %}{% if m.role == 'user' %}<user>{{ messages[0].content if loop.index0 == 1 }}"
        "{{ m.content }}<end>{% elif m.role == 'assistant' %}<model>{{ m.content }}<end>{% endif %}{% endfor %}<model>",
        "{{ messages | length }}" + CHATML + OPEN,
        CHATML + '"""' + OPEN,
    ],
)
def test_what_ollama_cannot_hold_is_refused(workshop: Path, template: str) -> None:
    files = read_files(workshop / "chat")
    with pytest.raises(OwnlmError, match="cannot be told in Ollama's form"):
        modelfile(replace(files, template=ModelTemplate(template, files.tokenizer)), context=64, sampling={})
