"""What operators see at /metrics: vLLM's names and buckets under ownlm_, so that its boards and alerts fit.

Counters of the engine are read when they are asked for; what belongs to a request is noted when it ends. With
`vllm_names` what vLLM has too stands there twice, the second time as vllm:NAME, for boards that were made for it.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample

from ownlm.machine import EnergyMeter

if TYPE_CHECKING:
    from ownlm.server.hosted import Hosted

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
# What vLLM counts alike.
_IN_VLLM = frozenset(
    {
        "num_requests_running",
        "num_requests_waiting",
        "kv_cache_usage_perc",
        "num_preemptions",
        "prefix_cache_queries",
        "prefix_cache_hits",
        "spec_decode_num_draft_tokens",
        "spec_decode_num_accepted_tokens",
        "prompt_tokens",
        "generation_tokens",
        "request_success",
        "time_to_first_token_seconds",
        "inter_token_latency_seconds",
        "e2e_request_latency_seconds",
        "request_queue_time_seconds",
        "request_prefill_time_seconds",
        "request_decode_time_seconds",
        "request_prompt_tokens",
        "request_generation_tokens",
    }
)
_FIRST = (
    0.001,
    0.005,
    0.01,
    0.02,
    0.04,
    0.06,
    0.08,
    0.1,
    0.25,
    0.5,
    0.75,
    1,
    2.5,
    5,
    7.5,
    10,
    20,
    40,
    80,
    160,
    640,
    2560,
)
_TOKEN = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40, 80)
_WHOLE = (0.3, 0.5, 0.8, 1, 1.5, 2, 2.5, 5, 10, 15, 20, 30, 40, 50, 60, 120, 240, 480, 960, 1920, 7680)
_TOKENS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 20_000, 50_000, 100_000)


class Metrics:
    """One server's. `hosted` is looked at whenever somebody asks. `labels` stand at every figure, where several
    servers answer at one address.
    """

    def __init__(self, hosted: "Mapping[str, Hosted] | None" = None) -> None:
        self.vllm_names = False
        self.labels: Mapping[str, str] = {}
        self.registry = CollectorRegistry()
        self._model = ("model_name",)
        self.success = self._counter("request_success", "Answers by why they ended.", "finished_reason")
        self.rejected = self._counter("rejected", "Requests that were not taken, by why.", "reason")
        self.guard_decisions = self._counter("guard_decisions", "Decisions of the policy's rules.", "rule", "action")
        self.cancelled = self._counter("cancelled", "Requests whose client left before the end.")
        self.prompt_tokens = self._counter("prompt_tokens", "Tokens of prompts.")
        self.generation_tokens = self._counter("generation_tokens", "Tokens of answers.")
        self.first_token = self._histogram(
            "time_to_first_token_seconds", "From the request to its first token.", _FIRST
        )
        self.between = self._histogram("inter_token_latency_seconds", "Between two tokens of an answer.", _TOKEN)
        self.whole = self._histogram("e2e_request_latency_seconds", "From the request to its last token.", _WHOLE)
        self.queued = self._histogram("request_queue_time_seconds", "Waiting for a place at the engine.", _WHOLE)
        self.prefill = self._histogram("request_prefill_time_seconds", "From the engine to the first token.", _WHOLE)
        self.decode = self._histogram("request_decode_time_seconds", "From the first token to the last.", _WHOLE)
        self.asked_tokens = self._histogram("request_prompt_tokens", "Tokens of a request's prompts.", _TOKENS)
        self.drawn_tokens = self._histogram("request_generation_tokens", "Tokens of a request's answers.", _TOKENS)
        self.loaded = Gauge("ownlm_model_loaded", "1 where the model is loaded.", self._model, registry=self.registry)
        self.load_seconds = self._histogram("model_load_seconds", "Loading a model; their count is the loads.", _WHOLE)
        self.unloads = self._counter("model_unloads", "Times that a model was unloaded, by why.", "reason")
        self.registry.register(_Engines(hosted or {}))
        self.registry.register(_Energy(hosted or {}))

    def text(self) -> bytes:
        # When a series began tells nobody anything, and doubles their number.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        return generate_latest(_Told(self))

    def _counter(self, name: str, help: str, *labels: str) -> Counter:
        return Counter(f"ownlm_{name}", help, (*self._model, *labels), registry=self.registry)

    def _histogram(self, name: str, help: str, buckets: Iterable[float]) -> Histogram:
        return Histogram(f"ownlm_{name}", help, self._model, registry=self.registry, buckets=tuple(buckets))


class _Told(CollectorRegistry):
    """All metrics by the names and with the labels under which they are told."""

    def __init__(self, metrics: Metrics) -> None:
        super().__init__()
        self._metrics = metrics

    def collect(self) -> Iterator[Metric]:
        for metric in self._metrics.registry.collect():
            yield self._as(metric, "ownlm_")
            if self._metrics.vllm_names and metric.name.removeprefix("ownlm_") in _IN_VLLM:
                yield self._as(metric, "vllm:")

    def _as(self, metric: Metric, prefix: str) -> Metric:
        told = Metric(prefix + metric.name.removeprefix("ownlm_"), metric.documentation, metric.type)
        for sample in metric.samples:
            labels = {**sample.labels, **self._metrics.labels}
            told.samples.append(Sample(prefix + sample.name.removeprefix("ownlm_"), labels, sample.value))
        return told


class _Energy(Collector):
    """What the machine says of itself, else an estimate; which of both stands in the label `source`."""

    def __init__(self, hosted: "Mapping[str, Hosted]") -> None:
        on_gpu = any(one.device == "cuda" for one in hosted.values())
        self._meter = EnergyMeter(device="cuda" if on_gpu else "cpu")

    def collect(self) -> Iterator[Metric]:
        help = f"Since the start, by {self._meter.method}. Measured it is the machine's, estimated the process's."
        family = CounterMetricFamily("ownlm_energy_joules", help, labels=["source"])
        family.add_metric([self._meter.source], self._meter.watt_hours() * 3600)
        yield family


class _Engines(Collector):
    def __init__(self, hosted: "Mapping[str, Hosted]") -> None:
        self._hosted = hosted

    def collect(self) -> Iterator[Metric]:
        gauges: dict[str, tuple[str, dict[str, float]]] = {}
        counters: dict[str, tuple[str, dict[str, float]]] = {}
        for name, hosted in self._hosted.items():
            stats, admission = hosted.stats(), hosted.admission
            for key, help, value in (
                ("num_requests_running", "Texts that the engine writes.", stats.running),
                ("num_requests_waiting", "Requests that wait.", stats.waiting + admission.waiting),
                ("kv_cache_usage_perc", "Share of the cache in use, 0 to 1.", stats.blocks_used / max(1, stats.blocks)),
            ):
                gauges.setdefault(key, (help, {}))[1][name] = value
            for key, help, value in (
                ("num_preemptions", "Texts that were put back for want of room.", stats.preemptions),
                ("prefix_cache_queries", "Tokens of prompts that were looked up.", stats.prompt_tokens),
                ("prefix_cache_hits", "Of them, found computed.", stats.cached_tokens),
                ("spec_decode_num_draft_tokens", "Tokens that were guessed.", stats.drafted_tokens),
                ("spec_decode_num_accepted_tokens", "Of them, right.", stats.accepted_tokens),
                ("engine_restarts", "Times that a failed engine was begun anew.", hosted.restarts),
            ):
                counters.setdefault(key, (help, {}))[1][name] = value
        yield from _families(GaugeMetricFamily, gauges)
        yield from _families(CounterMetricFamily, counters)


def _families(kind: Any, found: Mapping[str, tuple[str, Mapping[str, float]]]) -> Iterator[Metric]:
    for key, (help, values) in found.items():
        family = kind(f"ownlm_{key}", help, labels=["model_name"])
        for name, value in values.items():
            family.add_metric([name], value)
        yield family
