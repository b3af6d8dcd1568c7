"""The configuration files of the stack's services, as plain values."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from orchestrator.decide.adapters import served
from orchestrator.decide.effective import effective
from orchestrator.decide.engine_memory import default_batched_tokens
from orchestrator.facts import Facts, Model
from orchestrator.names import canonical
from orchestrator.rendering.engine import base_routes, model_of, routes_of, served_names
from orchestrator.rendering.surface import of_route, surface
from orchestrator.spec import Route, Spec
from orchestrator.spec_engine import Engine

# Words that stand for one token of the model itself: vLLM ends on them without being told.
_SPECIAL = re.compile(r"<\|.*\|>|<\uff5c.*\uff5c>|</?s>|<(?:start|end)_of_turn>|\[/?INST\]|<\|?end_of_text\|?>")
_LARGE = 160 * 2**30    # bytes of a GPU of which nothing is known
TOKEN_FILE = "/etc/gateway/token"  # noqa: S105 - where it is mounted, not what it says


def project(spec: Spec) -> str:
    """Return the Compose project of a stack."""
    return f"migrate-{spec.name}"


def host(spec: Spec, service: str) -> str:
    """Return the name by which a service is called inside the stack.

    Not the bare service name: the gateway also joins the networks of the original Ollama and carries its
    aliases there, so that `ollama` could be the gateway itself.
    """
    return f"{project(spec)}-{service}"


def engine_host(spec: Spec, replica: str) -> str:
    return f"{host(spec, f'vllm-{replica}')}:8000"


def several(spec: Spec) -> dict[str, list[str]]:
    """Return the replicas of each engine that has more than one."""
    return {name: list(spec.replicas(name)) for name, engine in spec.engines.items() if engine.replicas > 1}


def slices(spec: Spec, name: str) -> dict[str, list[str]]:
    """Return the GPUs of each replica of an engine."""
    engine = spec.engines[name]
    size = len(engine.gpus) // engine.replicas
    return {one: list(engine.gpus[at * size : (at + 1) * size]) for at, one in enumerate(spec.replicas(name))}


def shares_gpu(spec: Spec, gpus: Sequence[str], facts: Facts | None) -> bool:
    """Tell whether one of these GPUs (or, without GPUs, the memory) is used by Ollama too."""
    if spec.accelerator == "cpu":
        return True
    same = {gpu.uuid: gpu.index for gpu in facts.gpus} if facts else {}
    ollama = {same.get(gpu, gpu) for gpu in spec.ollama.gpus}
    return bool(ollama & {same.get(gpu, gpu) for gpu in gpus})


def plays_direct(spec: Spec, name: str, facts: Facts | None) -> bool:
    """Tell whether a route's chats may go to vLLM without the adapter.

    Not when the Modelfile adds words or stops, when another route's sampling defaults are the engine's, or
    when vLLM would answer with another route's name.
    """
    route = spec.routes[name]
    # A LoRA adapter answers to its exact name alone: any other spelling would get the base model's answer.
    if route.kind == "embedding" or route.adapter or name != base_routes(spec, route.engine or "")[0]:
        return False
    model = model_of(facts, name)
    if model is None:
        return True
    stops = model.parameters.get("stop", [])
    stops = [stops] if isinstance(stops, str) else stops
    plain = all(_SPECIAL.fullmatch(str(stop)) for stop in stops)
    return plain and not model.system and not model.messages


def _aliases(spec: Spec, name: str, route: Route) -> list[str]:
    names = list(route.names)
    repo = spec.engines[route.engine or ""].repo
    same = [model for model, one in spec.routes.items() if (one.engine, one.adapter) == (route.engine, route.adapter)]
    if route.adapter:
        names += [route.adapter] if name == same[0] else []
    elif name == base_routes(spec, route.engine or "")[0] and not repo.startswith(("/", ".")):
        names.append(repo)
    return list(dict.fromkeys(names))


def gateway(spec: Spec, facts: Facts | None, role: str = "final") -> dict[str, Any]:
    """Return the gateway's config.json: who serves what, never how much."""
    routes = {
        canonical(name): {
            "engine": route.engine,
            "names": _aliases(spec, name, route),
            **of_route(spec, route.engine or "", _aliases(spec, name, route), facts),
            "served": served(spec, name),
            "direct": plays_direct(spec, name, facts),
            "kind": route.kind,
            "failover": route.kind != "embedding",
            "sticky": spec.gateway.sticky if route.sticky is None else route.sticky,
            **({"shadow": route.shadow.percent} if route.shadow else {}),
        }
        for name, route in spec.migrating().items()
    }
    return {
        "stack": spec.name,
        "role": role,
        "ollama": f"{host(spec, 'ollama')}:11434",
        "adapter": f"{host(spec, 'adapter')}:8080",
        "engines": {one: engine_host(spec, one) for name in spec.engines for one in spec.replicas(name)},
        **({"replicas": several(spec)} if several(spec) else {}),
        **({"shadow": f"{host(spec, 'shadow')}:8090"} if shadowed(spec) else {}),
        **({"surface": surface(spec)} if surface(spec) else {}),
        "routes": routes,
    }


def adapter(spec: Spec, facts: Facts | None) -> dict[str, Any]:
    """Return the adapter's config.json: what Ollama would say of each model."""
    return {
        "ollama": f"http://{host(spec, 'ollama')}:11434",
        "version": facts.ollama.version if facts else "0.32.6",
        "routes": {
            canonical(name): _adapter_route(spec, name, route, model_of(facts, name))
            for name, route in spec.migrating().items()
        },
    }


def _adapter_route(spec: Spec, name: str, route: Route, model: Model | None) -> dict[str, Any]:
    known = model or Model(name=name)
    engine = spec.engines[route.engine or ""]
    urls = {one: f"http://{engine_host(spec, one)}" for one in several(spec).get(route.engine or "", [])}
    default = ("embedding",) if route.kind == "embedding" else ("completion",)
    return {
        "engine": route.engine,
        "url": f"http://{engine_host(spec, route.engine or '')}",
        **({"replicas": urls} if urls else {}),
        "served": served(spec, name),
        "names": _aliases(spec, name, route),
        "digest": known.digest,
        "size": known.size,
        "details": {key: value for key, value in known.details.items() if key != "modelfile"},   # ours, not Ollama's
        "capabilities": list(known.capabilities or default),
        "system": known.system,
        "messages": [dict(message) for message in known.messages],
        "parameters": known.parameters,
        "context_length": engine.max_model_len,
        "modified_at": known.modified_at,
    }


def guard(spec: Spec, facts: Facts | None) -> dict[str, Any]:
    """Return the guard's config.json: what to probe, and where to lower weights."""
    engines = {}
    for name, engine in spec.engines.items():
        routes = routes_of(spec, name)
        engines[name] = {
            "model": served_names(spec, name)[0],
            "routes": [canonical(route) for route in routes],
            "kind": "embedding" if engine.task == "embed" else "generate",
            "start_s": round(engine.start_timeout),
            "step_tokens": _step_tokens(spec, engine, facts),
            **({"replicas": list(spec.replicas(name))} if engine.replicas > 1 else {}),
            "urls": {one: f"http://{engine_host(spec, one)}" for one in spec.replicas(name)},
        }
    return {
        "gateway": f"http://{host(spec, 'gateway')}:9180",
        "token_file": TOKEN_FILE,
        "interval_s": 1.5,
        "timeout_s": 20,
        "failures": 2,
        "pulse_s": 1,
        "pulse_timeout_s": 1.5,
        "engines": engines,
    }


def _step_tokens(spec: Spec, engine: Engine, facts: Facts | None) -> int:
    """Return the most tokens that one step of an engine reads; without knowing its GPU, vLLM's largest default."""
    real = effective(engine)
    known = facts.gpus if facts else ()
    sizes = [gpu.total for gpu in known if {gpu.index, gpu.uuid} & set(engine.gpus)]
    total = 0 if spec.accelerator == "cpu" else max(sizes, default=_LARGE)
    most = real.max_num_batched_tokens or default_batched_tokens(total)
    return most if real.vllm.chunked_prefill is not False else max(most, real.max_model_len)


def monitoring(spec: Spec) -> dict[str, Any]:
    """Return what Prometheus and Grafana are told: whom to ask inside the stack's network."""
    return {
        "token_file": "/etc/prometheus/control.token",
        "gateway": f"{host(spec, 'gateway')}:9180",
        "sampler": f"{host(spec, 'sampler')}:9181",
        "prometheus": f"http://{host(spec, 'prometheus')}:9090",
        "engines": [
            {"engine": name, "replica": one, "address": engine_host(spec, one)}
            for name in spec.engines for one in spec.replicas(name)
        ],
    }  # fmt: skip


def shadowed(spec: Spec) -> dict[str, int]:
    """Return the routes of which vLLM is asked a share as well, and how many comparisons each keeps."""
    return {canonical(name): route.shadow.keep for name, route in spec.migrating().items() if route.shadow}


def shadow(spec: Spec) -> dict[str, Any]:
    """Return the shadow side-car's config.json."""
    return {
        "gateway": f"http://{host(spec, 'gateway')}:9180",
        "token_file": TOKEN_FILE,
        "folder": "/var/lib/shadow",
        "keep": shadowed(spec),
    }


def preload(spec: Spec, facts: Facts | None) -> dict[str, Any]:
    """Return the preloader's config.json.

    No options are sent: they would differ from what clients send and make Ollama reload. The context is
    pinned by Ollama's own environment.
    """
    models = []
    for name in spec.ollama.pinned:
        model, route = model_of(facts, name), spec.routes.get(name)
        kind = model.kind if model else route.kind if route else "generate"
        models.append({"name": name, "options": {}, "kind": kind})
    return {"ollama": f"http://{host(spec, 'ollama')}:11434", "interval_s": 5, "models": models}


def start(spec: Spec, name: str, facts: Facts | None) -> dict[str, dict[str, Any]]:
    """Return the start.json of each replica of an engine: what its wrapper waits for before it runs vLLM."""
    return {one: _start(spec, name, one, gpus, facts) for one, gpus in slices(spec, name).items()}


def _start(spec: Spec, name: str, replica: str, gpus: list[str], facts: Facts | None) -> dict[str, Any]:
    return {
        "name": replica,
        "ollama": f"http://{host(spec, 'ollama')}:11434",
        "pinned": list(spec.ollama.pinned) if shares_gpu(spec, gpus, facts) else [],
        "gpus": gpus,
        "accelerator": spec.accelerator,
        "lock_dir": "/run/migrate-gpu",
        "ready": "http://127.0.0.1:8000/health",
        "timeout_s": round(spec.engines[name].start_timeout),
    }
