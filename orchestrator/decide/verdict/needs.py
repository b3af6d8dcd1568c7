"""What the service is for: the other inputs of the articles' decision trees."""

from __future__ import annotations

import re

from orchestrator.decide.readings import number
from orchestrator.decide.verdict.parts import Demand, Reason, band
from orchestrator.facts import Facts, Model
from orchestrator.spec_needs import Needs

_LARGE = 70     # billions of parameters
_UNITS = {"": 1e-9, "K": 1e-6, "M": 1e-3, "B": 1.0, "T": 1e3}


_SIMPLE = (     # key, value, what is said, what it points to; FIRM: migrate unless little is asked at once
    ("sla", True, "an SLA: vLLM, for its latency under load and its metrics (S2)", "FIRM"),
    ("external_users", True, "external users: vLLM (S2)", "FIRM"),
    ("purpose", "production",
     "a production API: vLLM (S2); Ollama is valid under 5 at once with an acceptable p95 (S1)", "consider"),
    ("openai_drop_in", True,
     "the whole OpenAI API: vLLM (S2); Ollama's /v1 ignores tool_choice, n and logit_bias", "consider"),
    ("multi_cloud", True, "several clouds: vLLM is easier to replicate (S2)", "consider"),
    ("on_premises", True, "data stay on the premises: both engines do that (S4), so it decides nothing", ""),
    ("purpose", "development", "local development, experiments: Ollama (S2, S3, S4)", "stay"),
    ("purpose", "edge", "an edge device: Ollama, for its small footprint (S2, S4)", "stay"),
    ("purpose", "internal", "an internal tool: Ollama up to 10 users, good enough under 20 (S2)", "stay"),
    ("simplest_setup", True, "the simplest setup matters most: Ollama (S2, S3)", "stay"),
)  # fmt: skip


def demands(needs: Needs, facts: Facts, load: Demand) -> list[Reason]:
    """Return one reason per input that was given."""
    firm = "migrate" if load.usual is None or load.usual >= 3 else "consider"
    simple = [
        Reason("needs", text, "stated", firm if points == "FIRM" else points)
        for key, value, text, points in _SIMPLE
        if getattr(needs, key) == value
    ]
    counted = (_loras(needs), _automation(needs), _rate(needs, facts), _first_token(needs, load))
    return [*simple, *(one for one in counted if one)]


def _loras(needs: Needs) -> Reason | None:
    if not needs.loras:
        return None
    if needs.loras >= 10:
        text = f"{needs.loras} LoRA adapters: vLLM serves 10 or more beside one base model (S2)"
        return Reason("needs", text, "stated", "migrate")
    return Reason("needs", f"{needs.loras} LoRA adapters: under the 10 from which S2 says vLLM", "stated")


def _automation(needs: Needs) -> Reason | None:
    jobs = needs.ci_parallel
    if not jobs:
        return None
    if jobs is True:
        text = "CI or automation calls in parallel: Ollama becomes the bottleneck (S3)"
        return Reason("needs", text, "stated", "consider")
    if jobs < 2:
        return Reason("needs", "CI calls one at a time: Ollama does that well (S1, S4)", "stated")
    text = f"{jobs} CI or automation calls at once: Ollama becomes the bottleneck (S3)"
    return Reason("needs", text, "stated", "migrate" if band(jobs) == "migrate" else "consider")


def _first_token(needs: Needs, load: Demand) -> Reason | None:
    if needs.ttft_ms is None:
        return None
    if needs.ttft_ms >= 50:
        text = f"first token within {needs.ttft_ms:g} ms: not under the 50 ms from which S2 says vLLM"
        return Reason("needs", text, "stated")
    text = (f"first token in under {needs.ttft_ms:g} ms: S2 says vLLM, but S4 cites 45 ms for Ollama and 82 ms for "
            "vLLM with one user: measure both")  # fmt: skip
    return Reason("needs", text, "stated", "migrate" if (load.usual or 0) >= 3 else "consider")


def _rate(needs: Needs, facts: Facts) -> Reason | None:
    measured = facts.traffic.source not in ("none", "stated", "") and number(facts.traffic.requests_per_minute)
    rate = measured or needs.requests_per_minute
    if not rate:
        return None
    evidence, text = "measured" if measured else "stated", f"{rate:,.0f} requests in the busiest minute"
    if rate >= 1000:
        return Reason("needs", f"{text}: vLLM from 1,000 on (S2)", evidence, "migrate")
    return Reason("needs", f"{text}: under the 1,000 from which S2 says vLLM", evidence)


def billions(model: Model) -> float | None:
    """Return the parameters in billions, from `70.6B`, `8x7B`, or the count in the model's metadata."""
    found = re.fullmatch(r"\s*(?:(\d+)\s*[xX]\s*)?(\d+(?:\.\d+)?)\s*([KMBT]?)\s*", model.parameter_size.upper())
    if found and (found[3] or found[1]):
        return int(found[1] or 1) * float(found[2]) * _UNITS[found[3] or "B"]
    count = model.architecture.get("general.parameter_count")
    return count * 1e-9 if isinstance(count, int | float) and not isinstance(count, bool) else None


def size(facts: Facts, load: Demand) -> list[Reason]:
    """Return what the largest local model says; 70.6B is the 70B class, not above it."""
    known = [(params, model.name) for model in facts.ollama.models
             if not model.remote_host and (params := billions(model)) is not None]  # fmt: skip
    if not known:
        return []
    params, name = max(known)
    if int(params) <= _LARGE:
        return [Reason("size", f"the largest model is {name} with {params:.3g} billion parameters, not over 70",
                       "measured")]  # fmt: skip
    text = (f"{name} has {params:.3g} billion parameters: over 70 S2 and S4 say vLLM, split over several GPUs; "
            f"{_gpus(facts)}. Ollama can place its layers on several GPUs, too, but uses one at a time")  # fmt: skip
    return [Reason("size", text, "measured", "migrate" if (load.usual or 0) >= 3 else "consider")]


def _gpus(facts: Facts) -> str:
    count = sum(gpu.vendor.lower() in ("nvidia", "") for gpu in facts.gpus)
    return f"{count} GPU{'s' if count != 1 else ''} here"
