"""The documentation against the code: every key of a recipe with its type and default; every link and path."""

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import pytest

from ownlm.artefact.recipe import parse_recipe
from ownlm.corpus import CorpusConfig
from ownlm.corpus.config import DEFAULT_WEIGHTS
from ownlm.corpus.make_tokenizer import TokenizerConfig
from ownlm.engine import EngineConfig
from ownlm.journey.recipe import QuickstartRecipe, Shares, default_recipe
from ownlm.journey.tune import TuneRecipe
from ownlm.model import ModelShape
from ownlm.train import FinetuneRecipe, LoraTuning, PretrainRecipe
from ownlm.train.config import TrainConfig, TuneConfig, TuneOptimizerConfig
from ownlm.train.optim import OptimizerConfig
from ownlm.train.schedule import ScheduleConfig

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "src" / "ownlm"
PAGES = [*sorted((ROOT / "docs").glob("*.md")), ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
RECIPES = (ROOT / "docs" / "recipes.md").read_text(encoding="utf-8")
CONFIGS = (
    QuickstartRecipe,
    Shares,
    CorpusConfig,
    TokenizerConfig,
    PretrainRecipe,
    FinetuneRecipe,
    TuneRecipe,
    LoraTuning,
    ModelShape,
    TrainConfig,
    TuneConfig,
    OptimizerConfig,
    TuneOptimizerConfig,
    ScheduleConfig,
)
TYPES = {int: "integer", float: "number", str: "text", bool: "yes or no", Path: "path"}

# A word that can only be a path of ours; what stands in runs/ is made by the reader.
TREE = re.compile(r"(?<![\w/.])(?:src|tests|docs|examples|benchmarks)/[\w./-]*[\w/]")
QUOTED = re.compile(r"`([\w.-]+(?:/[\w.-]+)*/?)`")
LINK = re.compile(r"\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
FOLDERS = {path.name for path in PACKAGE.iterdir() if path.is_dir()} | {"src", "tests", "docs", "examples"}
# Of a run's folder, not of the package: the report calls them so too.
MADE = {"corpus/", "tokenizer/"}


def table_below(heading: str) -> dict[str, list[str]]:
    """The first table under a heading of recipes.md: key -> the other cells."""
    section = re.split(rf"^#+ {re.escape(heading)}$", RECIPES, flags=re.MULTILINE)[1]
    section = re.split(r"^#+ ", section, flags=re.MULTILINE)[0]
    return rows_of(section)


def rows_of(text: str) -> dict[str, list[str]]:
    rows: dict[str, list[str]] = {}
    for line in text[text.index("|---") :].splitlines()[1:]:
        if not line.startswith("|"):
            break
        key, *cells = (cell.strip() for cell in line.strip("|").split("|"))
        assert key.strip("`") not in rows, f"{key} stands twice"
        rows[key.strip("`")] = cells
    return rows


def type_words(hint: Any) -> str:
    if get_origin(hint) in (Union, UnionType):
        inner = [type_words(part) for part in get_args(hint) if part is not NoneType]
        return " or ".join([*inner, "null"])
    if is_dataclass(hint):
        return "section"
    if get_origin(hint) is tuple:
        return "list of texts"
    if get_origin(hint) is Literal:
        return "text"
    if get_origin(hint) is Mapping:
        return "map of numbers"
    return TYPES[hint]


def value_words(value: Any) -> str:
    if isinstance(value, float) and math.isinf(value):
        return "`.inf`"
    if isinstance(value, str):
        return f"`{value}`"
    return f"`{json.dumps(value)}`"


def default_words(field: Field[Any]) -> str:
    if field.default_factory is not MISSING:
        value = field.default_factory()
        if is_dataclass(value):
            name = type(value).__name__
            return f"[{name}](#{name.lower()})"
        return "[weights](#weights)" if isinstance(value, Mapping) else value_words(value)
    return "required" if field.default is MISSING else value_words(field.default)


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.__name__)
def test_recipes_lists_every_key_with_type_and_default(config: type) -> None:
    hints = get_type_hints(config)
    # One that builds on another lists what is its own: new keys, and other defaults.
    own = [field for field in fields(config) if field.name in config.__annotations__]
    expected = {field.name: [type_words(hints[field.name]), default_words(field)] for field in own}
    listed = table_below(config.__name__)
    assert {key: cells[:2] for key, cells in listed.items()} == expected
    assert all(cells[2] for cells in listed.values()), "a key without a meaning"


def test_recipes_lists_every_weight() -> None:
    expected = {key: [value_words(weight)] for key, weight in DEFAULT_WEIGHTS.items()}
    assert table_below("weights") == expected


def test_recipes_lists_what_the_packaged_recipe_changes() -> None:
    packaged = dict(leaves(parse_recipe(default_recipe(), QuickstartRecipe)))
    expected = {
        key: [value_words(packaged[key])] for key, value in leaves(QuickstartRecipe()) if packaged[key] != value
    }
    section = RECIPES[RECIPES.index("| key in `recipes/quickstart.yaml`") :]
    assert rows_of(section) == expected


def test_engine_lists_every_setting_and_every_file() -> None:
    page = (ROOT / "docs" / "engine.md").read_text(encoding="utf-8")
    listed = {key: cells[0] for key, cells in rows_of(page[page.index("## Settings") :]).items()}
    assert listed == {field.name: json.dumps(field.default) for field in fields(EngineConfig)}
    files = {f"engine/{path.name}" for path in (PACKAGE / "engine").glob("*.py")} - {"engine/__init__.py"}
    assert files - set(re.findall(r"`(engine/\w+\.py)`", page)) == set()


def leaves(config: Any, place: str = "") -> Iterator[tuple[str, Any]]:
    """("a.b", value) of every field that is no section."""
    for field in fields(config):
        value = getattr(config, field.name)
        if is_dataclass(value):
            yield from leaves(value, f"{place}{field.name}.")
        else:
            yield place + field.name, value


@pytest.mark.parametrize("name", ["base.yaml", "chat.yaml"])
def test_the_worked_recipes_are_recipes(name: str) -> None:
    text = RECIPES.split(f"`{name}`:\n```yaml\n")[1].split("```")[0]
    kind: type = PretrainRecipe if name == "base.yaml" else FinetuneRecipe
    parse_recipe(text, kind, name=name)


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = HEADING.findall(page.read_text(encoding="utf-8"))
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_relative_links_lead_somewhere(page: Path) -> None:
    for link in LINK.findall(page.read_text(encoding="utf-8")):
        if re.match(r"[a-z]+:", link):
            continue
        name, _, anchor = link.partition("#")
        target = page.parent / name if name else page
        assert target.exists(), f"{page.name}: {link}"
        if anchor and target.suffix == ".md":
            assert anchor in anchors(target), f"{page.name}: {link}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_named_paths_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    missing = [path for path in TREE.findall(text) if not (ROOT / path).exists()]
    missing += [path for path in QUOTED.findall(text) if is_ours(path) and not exists(path)]
    assert not missing, f"{page.name} names what is not there: {', '.join(missing)}"


def is_ours(path: str) -> bool:
    """A path in the package or the repository, rather than one that a reader's run makes."""
    first, slash, _ = path.partition("/")
    if path in MADE or not slash:
        return path.endswith((".py", ".lock", ".toml"))
    return first in FOLDERS and (path.endswith("/") or "." in path)


def exists(path: str) -> bool:
    return (ROOT / path).exists() or (PACKAGE / path).exists()


def test_the_tour_stays_short_and_its_first_station_is_the_size_it_says() -> None:
    tour = (ROOT / "docs" / "tour.md").read_text(encoding="utf-8")
    assert tour.count("\n") <= 250
    lines = (ROOT / "examples" / "llm_in_one_file.py").read_text(encoding="utf-8").count("\n")
    assert f"in {lines} lines" in tour
