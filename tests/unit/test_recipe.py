"""Recipes: strict, with the line and the nearest right name, before anything runs."""

from pathlib import Path

import pytest

from ownlm.artefact.recipe import parse_recipe, read_recipe, to_yaml
from ownlm.errors import OwnlmError
from ownlm.journey.recipe import QuickstartRecipe, default_recipe
from ownlm.train import FinetuneRecipe, PretrainRecipe

GOOD = """\
# a comment
tokens: runs/tokens
tokenizer: runs/tokenizer
out: runs/base
train:
  steps: 10
  optimizer:
    learning_rate: 0.01
"""


def read(text: str, *overrides: str) -> PretrainRecipe:
    return parse_recipe(text, PretrainRecipe, overrides, name="mine.yaml")


def test_read_with_overrides() -> None:
    recipe = read(GOOD, "train.rows=3", "train.steps=null", "train.minutes=2", "model.depth=6", "watch=[a, b]")
    assert (recipe.train.rows, recipe.train.steps, recipe.train.minutes) == (3, None, 2)
    assert (recipe.model.depth, recipe.watch, recipe.train.optimizer.learning_rate) == (6, ("a", "b"), 0.01)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (GOOD.replace("steps:", "step:"), r"mine\.yaml:6: unknown key train\.step; did you mean steps\?"),
        (GOOD.replace("learning_rate", "lerning_rate"), r"mine\.yaml:8: unknown key .*did you mean learning_rate\?"),
        (GOOD + "zzz: 1\n", r"mine\.yaml:9: unknown key zzz; there are tokens"),
        (GOOD.replace("steps: 10", "steps: ten"), r"mine\.yaml:6: train\.steps: .*'ten'"),
        (GOOD.replace("steps: 10", "steps: 1.5"), r"mine\.yaml:6: train\.steps: "),
        (GOOD.replace("steps: 10", "steps: true"), r"mine\.yaml:6: train\.steps: "),
        (GOOD.replace("out: runs/base\n", ""), r"mine\.yaml.*out"),
        (GOOD.replace("steps: 10", "steps: 0"), r"mine\.yaml:6: train: steps and minutes must be more than 0"),
        (GOOD.replace("0.01", "-1.0"), r"mine\.yaml:8: learning_rate must be 0 or more"),
        (GOOD.replace("steps: 10", "rows: 2020-01-01"), r"mine\.yaml:6: train\.rows"),
        (GOOD.replace("steps: 10", "steps: 10\n  minutes: 2"), r"mine\.yaml:6: train: give steps or minutes"),
        (GOOD + "watch: ['']\n", r"mine\.yaml:9: watch: "),
        (GOOD + "out: again\n", r"mine\.yaml:9: not YAML"),
        ("a: [", r"mine\.yaml:\d: not YAML"),
        ("- a\n- b\n", "a recipe is `key: value` lines"),
        ("train: 3\ntokens: a\ntokenizer: b\nout: c\n", r"mine\.yaml:1: train: "),
    ],
)
def test_mistakes_are_one_line(text: str, message: str) -> None:
    with pytest.raises(OwnlmError, match=message) as refused:
        read(text)
    assert "\n" not in str(refused.value) and len(str(refused.value)) <= 400


@pytest.mark.parametrize("override", ["train.rows", "=3", "train.rowz=3", "train.rows=[", "train.rows=many"])
def test_wrong_overrides_are_one_line(override: str) -> None:
    with pytest.raises(OwnlmError) as refused:
        read(GOOD, override)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.rowz=3", "--set train.rowz=3: unknown key train.rowz; did you mean rows?"),
        ("train.rowz.x=3", "--set train.rowz.x=3: unknown key train.rowz; did you mean rows?"),
        ("train.rows=many", "--set train.rows=many: train.rows: "),
        ("train.rows.x=3", "--set train.rows.x=3: train.rows: "),
        ("train.rows=0", "--set train.rows=0: train: rows must be at least 1, got 0"),
        ("train.minutes=2", "--set train.minutes=2: train: give steps or minutes"),
        ("train.optimizer.clip=0", "--set train.optimizer.clip=0: clip must be above 0"),
        ("model={depth: 0}", "--set model={depth: 0}: "),
    ],
)
def test_a_mistake_on_the_command_line_is_not_blamed_on_the_file(override: str, message: str) -> None:
    with pytest.raises(OwnlmError) as refused:
        read(GOOD, "train.schedule.warmup=0.1", override)
    assert str(refused.value).startswith(message)


def test_the_quickstarts_mistakes_name_what_they_are_about() -> None:
    for override, words in (
        ("pretrain.context=128", "finetune: context 256 is longer than pretrain's 128"),
        ("finetune.seed=3", "one seed decides"),
        ("corpus.validation_share=0.9", "validation_share is 0.9"),
        ('corpus.weights={"python": 3}', 'weights has "python": 3'),
        ("tokenizer.kind=wrod", "'bpe', 'word' or 'character'"),
        ("minutes=-1", "minutes must be more than 0"),
    ):
        with pytest.raises(OwnlmError) as refused:
            parse_recipe(default_recipe(), QuickstartRecipe, [override], name="quickstart.yaml")
        assert str(refused.value).startswith(f"--set {override}: ") and words in str(refused.value)
    text = "pretrain:\n  rows: 4\nfinetune:\n  rows: 4\n  context: 512\n"
    with pytest.raises(OwnlmError, match=r"mine\.yaml:5: finetune: context 512 is longer"):
        parse_recipe(text, QuickstartRecipe, name="mine.yaml")


@pytest.mark.parametrize("kind", [QuickstartRecipe, PretrainRecipe, FinetuneRecipe])
def test_what_is_written_is_read_back_equal(kind: type) -> None:
    text = {
        QuickstartRecipe: default_recipe(),
        PretrainRecipe: GOOD,
        FinetuneRecipe: "model: a\nconversations: b\nout: c\ntrain: {minutes: 1}\n",
    }[kind]
    recipe = parse_recipe(text, kind)
    assert parse_recipe(to_yaml(recipe), kind) == recipe
    assert to_yaml(parse_recipe(to_yaml(recipe), kind)) == to_yaml(recipe)


def test_the_file_must_be_there_and_be_text(tmp_path: Path) -> None:
    for path in (tmp_path / "none.yaml", tmp_path):
        with pytest.raises(OwnlmError, match="no such recipe"):
            read_recipe(path, PretrainRecipe)
    (tmp_path / "binary.yaml").write_bytes(bytes(range(256)))
    with pytest.raises(OwnlmError, match=r"binary\.yaml"):
        read_recipe(tmp_path / "binary.yaml", PretrainRecipe)
