"""deploy/: every metric and label that the board and the alerts name is one that a running server has."""

import importlib.util
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from ownlm.opened import load
from ownlm.server.app import make_app
from ownlm.server.errors import QUEUE_FULL
from ownlm.server.hosted import Hosted
from ownlm.server.service import Service
from serving import serving

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
NAME = re.compile(r"\b(?:ownlm_|vllm:)\w+")
# What Prometheus and Grafana add themselves.
THEIRS = {"instance", "job", "le"}
SUFFIXES = {"histogram": ("_bucket", "_sum", "_count"), "gauge": ("",), "counter": ("",)}


def board() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((DEPLOY / "grafana.json").read_text())
    return found


def rules() -> list[dict[str, Any]]:
    [group] = YAML(typ="safe").load(DEPLOY / "alerts.yaml")["groups"]
    found: list[dict[str, Any]] = group["rules"]
    return found


def expressions() -> list[str]:
    return [target["expr"] for panel in board()["panels"] for target in panel["targets"]] + [
        rule["expr"] for rule in rules()
    ]


@pytest.fixture(scope="module")
def told(workshop: Path) -> Iterator[str]:
    """/metrics of a server that has answered, and (as is noted here) refused."""
    service = Service(hosted={"base": Hosted("base", load(workshop / "base"))})
    service.metrics.vllm_names = True
    with serving(make_app(service)) as server:
        asked = {"model": "base", "prompt": "The cat", "max_tokens": 4, "ignore_eos": True}
        assert server.post("/v1/completions", asked).status == 200
        service.metrics.rejected.labels("base", QUEUE_FULL).inc()
        yield server.get("/metrics").body.decode()


def series(told: str) -> set[str]:
    kinds = re.findall(r"^# TYPE (\S+) (\w+)$", told, re.MULTILINE)
    return {name + suffix for name, kind in kinds for suffix in SUFFIXES[kind]}


def test_what_board_and_alerts_name_is_there(told: str) -> None:
    named = {name for expression in expressions() for name in NAME.findall(expression)}
    assert len(named) > 20 and named <= series(told)
    assert {"ownlm_energy_joules_total", "ownlm_rejected_total"} <= named
    labels = set(re.findall(r"[{,](\w+)=\"", told)) | THEIRS
    for expression in expressions():
        grouped = [name for group in re.findall(r"by \(([^)]*)\)", expression) for name in group.split(", ")]
        assert {*grouped, *re.findall(r"[{,](\w+)=", expression)} <= labels, expression


def test_the_alias_of_a_metric_says_the_same(told: str) -> None:
    # Of vLLM's own board, all but what one may at most ask for.
    assert {
        "vllm:num_requests_running",
        "vllm:num_requests_waiting",
        "vllm:kv_cache_usage_perc",
        "vllm:prompt_tokens_total",
        "vllm:request_success_total",
        "vllm:time_to_first_token_seconds_bucket",
        "vllm:inter_token_latency_seconds_sum",
        "vllm:e2e_request_latency_seconds_count",
    } <= series(told)
    lines = set(told.splitlines())
    aliases = [line for line in lines if line.startswith("vllm:")]
    assert len(aliases) > 100 and all(line.replace("vllm:", "ownlm_") in lines for line in aliases)
    assert "vllm:rejected" not in told and "vllm:energy" not in told


def test_energy_says_where_it_comes_from(told: str) -> None:
    [(source, joules)] = re.findall(r'^ownlm_energy_joules_total{source="(\w+)"} (\S+)$', told, re.MULTILINE)
    assert source in ("measured", "estimated") and float(joules) > 0


def test_without_the_option_there_are_no_aliases() -> None:
    metrics = Service(hosted={}).metrics
    assert b"vllm:" not in metrics.text()
    metrics.labels = {"replica": "a"}
    assert b'ownlm_energy_joules_total{replica="a",source=' in metrics.text()


def test_alerts_are_rules() -> None:
    assert len({rule["alert"] for rule in rules()}) == len(rules())
    for rule in rules():
        assert set(rule) <= {"alert", "expr", "for", "labels", "annotations"}
        assert re.fullmatch(r"\d+m", rule.get("for", "1m"))
        assert rule["labels"]["severity"] in ("warning", "critical")
        assert set(rule["annotations"]) == {"summary", "description"}


@pytest.mark.skipif(
    importlib.util.find_spec("promql_parser") is None, reason="announced: promql-parser is not installed"
)
def test_expressions_are_promql() -> None:
    import promql_parser

    for expression in expressions():
        promql_parser.parse(expression.replace("$__rate_interval", "5m"))
