"""/metrics under the names that this release uses."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from orchestrator.standin.vllm.engine import End, Params

TTFT = (
    .001, .005, .01, .02, .04, .06, .08, .1, .25, .5, .75, 1., 2.5, 5., 7.5, 10., 20., 40., 80., 160., 640., 2560.,
)  # fmt: skip
ITL = (.01, .025, .05, .075, .1, .15, .2, .3, .4, .5, .75, 1., 2.5, 5., 7.5, 10., 20., 40., 80.)  # fmt: skip
E2E = (
    .3, .5, .8, 1., 1.5, 2., 2.5, 5., 10., 15., 20., 30., 40., 50., 60., 120., 240., 480., 960., 1920., 7680.,
)  # fmt: skip
COUNTS = (1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0)
HTTP = (0.1, 0.5, 1.0)
HISTOGRAMS = {
    "request_prompt_tokens": (COUNTS, "Number of prefill tokens processed."),
    "request_generation_tokens": (COUNTS, "Number of generation tokens processed."),
    "request_params_n": ((1.0, 2.0, 5.0, 10.0, 20.0), "Histogram of the n request parameter."),
    "request_params_max_tokens": (COUNTS, "Histogram of the max_tokens request parameter."),
    "time_to_first_token_seconds": (TTFT, "Histogram of time to first token in seconds."),
    "inter_token_latency_seconds": (ITL, "Histogram of inter-token latency in seconds."),
    "request_time_per_output_token_seconds": (ITL, "Histogram of time_per_output_token_seconds per request."),
    "e2e_request_latency_seconds": (E2E, "Histogram of e2e request latency in seconds."),
    "request_queue_time_seconds": (E2E, "Histogram of time spent in WAITING phase for request."),
    "request_inference_time_seconds": (E2E, "Histogram of time spent in RUNNING phase for request."),
    "request_prefill_time_seconds": (E2E, "Histogram of time spent in PREFILL phase for request."),
    "request_decode_time_seconds": (E2E, "Histogram of time spent in DECODE phase for request."),
}
REASONS = ("stop", "length", "abort", "error", "repetition")


@dataclass
class Histogram:
    bounds: tuple[float, ...]
    counts: list[int] = field(default_factory=list)
    total: float = 0.0
    number: int = 0

    def __post_init__(self) -> None:
        self.counts = [0] * len(self.bounds)

    def add(self, value: float) -> None:
        self.total += value
        self.number += 1
        for i, bound in enumerate(self.bounds):
            self.counts[i] += value <= bound

    def lines(self, name: str, labels: str) -> list[str]:
        """Return the cumulative buckets, count and sum; `labels` ends with a comma or is empty."""
        found = [f'{name}_bucket{{{labels}le="{b}"}} {float(c)}' for b, c in zip(self.bounds, self.counts, strict=True)]
        bare = f"{{{labels.rstrip(',')}}}" if labels else ""
        found.append(f'{name}_bucket{{{labels}le="+Inf"}} {float(self.number)}')
        return [*found, f"{name}_count{bare} {float(self.number)}", f"{name}_sum{bare} {self.total}"]


class Metrics:
    """Counters and histograms of one server; `model` is the label, the first served name."""

    def __init__(self, model: str) -> None:
        self.model = model
        self.created = time.time()
        self.prompt_tokens = 0
        self.generation_tokens = 0
        self.success: Counter[str] = Counter()
        self.http: Counter[tuple[str, str, str]] = Counter()
        self.durations: dict[tuple[str, str], Histogram] = {}
        self.histograms = {name: Histogram(bounds) for name, (bounds, _) in HISTOGRAMS.items()}

    def prompt(self, tokens: int) -> None:
        self.prompt_tokens += tokens

    def token(self) -> None:
        self.generation_tokens += 1

    def answered(self, handler: str, method: str, status: int, seconds: float) -> None:
        self.http[handler, method, f"{status // 100}xx"] += 1
        self.durations.setdefault((handler, method), Histogram(HTTP)).add(seconds)

    def finished(self, params: Params, end: End, began: float, queued: float, stamps: list[float]) -> None:
        """Count a sequence that ended by itself; an aborted one is never counted, as in the real engine."""
        self.success[end.reason] += 1
        last = stamps[-1] if stamps else time.monotonic()
        first = stamps[0] if stamps else last
        gaps = [b - a for a, b in pairwise(stamps)]
        values = {
            "request_prompt_tokens": params.prompt_tokens,
            "request_generation_tokens": end.tokens,
            "request_params_n": params.n,
            "request_params_max_tokens": params.limit,
            "time_to_first_token_seconds": first - began,
            "request_time_per_output_token_seconds": (last - first) / max(1, len(gaps)),
            "e2e_request_latency_seconds": last - began,
            "request_queue_time_seconds": queued,
            "request_inference_time_seconds": last - began - queued,
            "request_prefill_time_seconds": first - began - queued,
            "request_decode_time_seconds": last - first,
        }
        for name, value in values.items():
            self.histograms[name].add(value)
        for gap in gaps:
            self.histograms["inter_token_latency_seconds"].add(gap)

    def render(self, *, running: int, waiting: int, cache_tokens: int, utilization: float) -> str:
        label = f'engine="0",model_name="{self.model}"'
        out: list[str] = []

        def head(name: str, kind: str, text: str) -> None:
            out.extend([f"# HELP {name} {text}", f"# TYPE {name} {kind}"])

        def single(name: str, kind: str, text: str, value: float) -> None:
            head(f"vllm:{name}", kind, text)
            out.append(f"vllm:{name}{{{label}}} {float(value)}")
            if kind == "counter":
                created = name.removesuffix("_total") + "_created"
                head(f"vllm:{created}", "gauge", text)
                out.append(f"vllm:{created}{{{label}}} {self.created}")

        single("num_requests_running", "gauge", "Number of requests in model execution batches.", running)
        single("num_requests_waiting", "gauge", "Number of requests waiting to be processed.", waiting)
        head("vllm:num_requests_waiting_by_reason", "gauge", "Number of waiting requests by reason.")
        for reason, value in (("capacity", waiting), ("deferred", 0)):
            out.append(f'vllm:num_requests_waiting_by_reason{{{label},reason="{reason}"}} {float(value)}')
        head("vllm:engine_sleep_state", "gauge", "Engine sleep state.")
        for state, on in (("awake", 1), ("weights_offloaded", 0), ("discard_all", 0)):
            out.append(f'vllm:engine_sleep_state{{{label},sleep_state="{state}"}} {float(on)}')
        used = min(1.0, running * 128 / max(1, cache_tokens))
        single("kv_cache_usage_perc", "gauge", "KV-cache usage. 1 means 100 percent usage.", used)
        single("prefix_cache_queries_total", "counter", "Prefix cache queries.", self.prompt_tokens)
        single("prefix_cache_hits_total", "counter", "Prefix cache hits.", 0)
        single("num_preemptions_total", "counter", "Cumulative number of preemption from the engine.", 0)
        single("prompt_tokens_total", "counter", "Number of prefill tokens processed.", self.prompt_tokens)
        single("prompt_tokens_cached_total", "counter", "Number of cached prompt tokens.", 0)
        single("generation_tokens_total", "counter", "Number of generation tokens processed.", self.generation_tokens)
        head("vllm:request_success_total", "counter", "Count of successfully processed requests.")
        kept = f'model_name="{self.model}"'
        series = 'vllm:request_success_total{engine="0",finished_reason="%s",%s} %s'
        out += [series % (reason, kept, float(self.success[reason])) for reason in REASONS]
        head("vllm:admission_rejections_total", "counter", "Number of admission attempts rejected by a queue limit.")
        limits = ("max_num_queued_reqs", "max_num_queued_tokens")
        out += [f'vllm:admission_rejections_total{{{kept},reason="{limit}"}} 0.0' for limit in limits]
        for name, histogram in self.histograms.items():
            head(f"vllm:{name}", "histogram", HISTOGRAMS[name][1])
            out += histogram.lines(f"vllm:{name}", label + ",")
        head("vllm:cache_config_info", "gauge", "Information of the LLMEngine CacheConfig.")
        config = f'gpu_memory_utilization="{utilization}",kv_cache_size_tokens="{cache_tokens}"'
        out.append(f'vllm:cache_config_info{{engine="0",{config}}} 1.0')
        head("http_requests_total", "counter", "Total number of requests by method, status and handler.")
        for (handler, method, status), number in self.http.items():
            series = f'handler="{handler}",method="{method}",status="{status}"'
            out.append(f"http_requests_total{{{series}}} {float(number)}")
        head("http_request_duration_seconds", "histogram", "Latency with only few buckets by handler.")
        for (handler, method), histogram in self.durations.items():
            out += histogram.lines("http_request_duration_seconds", f'handler="{handler}",method="{method}",')
        return "\n".join(out) + "\n"
