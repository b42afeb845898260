"""What --inspect shows is what the loss sees, and nothing is written or trained."""

import json
from pathlib import Path

import pytest

from ownlm.artefact import write_artefact
from ownlm.cli.inspect_training import shown
from ownlm.cli.main import run
from ownlm.tokenizer import ChatTemplate
from ownlm.train.batch import IGNORE
from ownlm.train.conversations import ConversationRows, render_examples
from ownlm.train.inspect import figure_lines, inspect_lines
from tiny_models import tiny_tokenizer

OWN = tiny_tokenizer()
LINES = [
    {"messages": [{"role": "user", "content": "Hi \x1b[31m"}, {"role": "assistant", "content": f"Yes{n}."}]}
    for n in range(5)
] + [{"text": "the cat\nran é"}]


def seen(context: int = 60, rows: int = 9):
    return inspect_lines(LINES, ChatTemplate(OWN), OWN, context=context, seed=3, rows=rows)


def test_the_rows_are_those_of_training() -> None:
    examples, counts = render_examples(LINES, ChatTemplate(OWN), context=60)
    inspection = seen()
    assert len(inspection.rows) == inspection.rows_an_epoch > 1 and inspection.counts == counts
    batch = ConversationRows(examples, context=60, seed=3).batch(0, inspection.rows_an_epoch)
    for number, row in enumerate(inspection.rows):
        wanted = [target for target in batch.targets_BT[number].tolist() if target != IGNORE]
        assert [token.id for token in row.tokens if token.trained] == wanted
        inputs = [id for id, d in zip(batch.tokens_BT[number], batch.documents_BT[number], strict=True) if d >= 0]
        assert [token.id for token in row.tokens][: len(inputs)] == inputs
    trained = "".join(t.text for row in inspection.rows for t in row.tokens if t.trained)
    assert all(f"Yes{n}.<|im_end|>" in trained for n in range(5)) and "Hi" not in trained
    assert sum(t.trained for row in inspection.rows for t in row.tokens) == counts.trained_tokens
    assert inspection.ended == len(examples) and inspection.shortest <= inspection.longest


def test_without_colour_brackets_say_it_and_nothing_moves_the_cursor() -> None:
    text = "\n".join(shown(seen(), color=False))
    assert text.startswith("⟦trained⟧") and "\x1b" not in text and "␛" in text
    plain = text.replace("·", "")
    assert "<|im_start|>assistant⏎\n⟦Yes0.<|im_end|>⟧⏎" in plain and "t⟦he cat⏎\nran" in plain
    assert text.count("-- example") == 6 and "padding" in text
    colour = "\n".join(shown(seen(), color=True))
    assert "⟦" not in colour and "\x1b[7;" in colour and "\x1b[31m" not in colour


def test_figures_tell_what_was_cut() -> None:
    lines = [{"text": "the cat " * 40}, *LINES]
    inspection = inspect_lines(lines, ChatTemplate(OWN), OWN, context=20, seed=0, rows=1)
    told = "\n".join(figure_lines(inspection, {"e-mail": {"count": 2, "first": "a:1"}}))
    assert "5 conversations and 2 documents" in told and "(14.3%) documents longer" in told
    assert "2 e-mail (first: a:1)" in told and "can repeat what it read" in told


def recipe(folder: Path, workshop: Path, conversations: Path) -> list[str]:
    path = folder / "recipe.yaml"
    path.write_text(
        f"model: {workshop / 'base'}\nconversations: {conversations}\nout: {folder / 'run'}\n"
        "train: {steps: 1, rows: 2, context: 64}\n"
    )
    return ["finetune", str(path), "--inspect"]


def test_the_command(workshop: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = recipe(tmp_path, workshop, workshop / "conversations")
    assert run(command) == 0
    out = capsys.readouterr().out
    assert (
        "assistant⏎\n⟦" in out.replace("·", "") and "3 conversations and 0 documents" in out and "are trained (" in out
    )
    assert run([*command, "--json", "--rows", "1"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert len(found["rows"]) == 1 and found["counts"]["conversations"] == 3
    row = found["rows"][0]
    assert len({len(row[name]) for name in ("ids", "texts", "trained", "special", "documents")}) == 1
    assert run([*command, "--rows", "0"]) == 2
    assert not (tmp_path / "run").exists()


def test_the_recipes_wishes_count(workshop: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    chat = tmp_path / "chat.jsonl"
    chat.write_text("\n".join(json.dumps(line) for line in LINES))
    template = tmp_path / "form.jinja"
    template.write_text("{% for m in messages %}{{ m.role }}<|note|>{{ m.content }}<|im_end|>{% endfor %}")
    wishes = {"chat_template": template, "add_tokens": '["<|note|>"]', "replay": chat, "replay_share": 0.5}
    set_ = [part for name, value in wishes.items() for part in ("--set", f"{name}={value}")]
    assert run([*recipe(tmp_path, workshop, workshop / "conversations"), *set_, "--rows", "2"]) == 0
    out = capsys.readouterr().out
    assert "<|note|>" in out and "<|im_start|>" not in out
    assert "== row 0:" in out and "50% of the rows are of replay: " in out
    assert [line.partition(":")[0] for line in out.splitlines() if "row 1" in line] == ["== row 1 of replay"]


def test_the_users_own_file_is_looked_at_too(
    workshop: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    chat = tmp_path / "chat.jsonl"
    chat.write_text("\n".join(json.dumps(line) for line in LINES))
    assert run(recipe(tmp_path, workshop, chat)) == 0
    out = capsys.readouterr().out
    assert "nothing looks like e-mail" in out


def test_a_set_that_trains_nothing_is_refused(
    workshop: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = {"messages": [{"role": "user", "content": "Hi"}]}
    with write_artefact(tmp_path / "conversations", "conversations", how={}) as draft:
        for name in ("train", "validation"):
            (draft.path / f"{name}.jsonl").write_text(json.dumps(line) + "\n")
    assert run(recipe(tmp_path, workshop, tmp_path / "conversations")) == 2
    assert "no conversation has an assistant's turn to train on" in capsys.readouterr().err
