"""No command reaches beyond this machine unless its line says so: each is run where a connect ends the process.

The quickstart is run so in test_cli.py.
"""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

import no_connections
import tiny_journey
from ownlm.artefact.recipe import to_yaml


def run_all(commands: list[list[str]], site: Path) -> "subprocess.CompletedProcess[str]":
    """In one process, for torch takes seconds to import; it ends at the first command that fails."""
    site.mkdir()
    code = (
        "import sys\nfrom ownlm.cli.main import run\n"
        f"for command in {commands!r}:\n"
        "    status = run(command)\n"
        "    print('ENDED', command[0], status)\n"
        "    sys.exit(status) if status else None\n"
    )
    environment = no_connections.environment(site) | {"OWNLM_CACHE": str(site / "cache")}
    return subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, stdin=subprocess.DEVNULL
    )


def test_tuning_answering_and_looking(workshop: Path, tmp_path: Path) -> None:
    recipe = tiny_journey.chat_recipe(workshop, tmp_path / "tuned")
    recipe = replace(recipe, train=tiny_journey.tune_config(steps=2))
    (tmp_path / "mine.yaml").write_text(to_yaml(recipe))
    tuned = str(tmp_path / "tuned")
    commands = [
        ["finetune", str(tmp_path / "mine.yaml")],
        ["generate", tuned, "The cat", "--max-tokens", "4"],
        ["chat", tuned, "--prompt", "Who are you?", "--max-tokens", "4"],
        ["ask", str(workshop / "corpus"), "Who are you?", "--model", tuned],
        ["doctor"],
        ["starter", "list"],
        ["starter", "remove", "smollm2"],
    ]
    done = run_all(commands, tmp_path / "site")
    assert done.returncode == 0 and "CONNECTED" not in done.stderr, done.stdout + done.stderr
    assert done.stdout.count("ENDED") == len(commands)


@pytest.mark.parametrize("model", ["gpt2", "openai-community/gpt2", "smollm2"])
def test_names_that_a_network_would_know_are_not_asked_of_it(model: str, tmp_path: Path) -> None:
    done = run_all([["generate", model, "The cat"]], tmp_path / "site")
    assert done.returncode == 2 and "CONNECTED" not in done.stderr, done.stderr


def test_a_line_that_names_the_hub_does_reach_for_it(tmp_path: Path) -> None:
    """And so the guard would have seen the others."""
    done = run_all([["generate", "hub:openai-community/gpt2", "The cat"]], tmp_path / "site")
    assert done.returncode == no_connections.REFUSED and "CONNECTED" in done.stderr
