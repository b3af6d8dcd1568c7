"""What the Compose templates are filled with: every service as a plain value."""

from __future__ import annotations

import math
import re
from typing import Any

from orchestrator.facts import Facts
from orchestrator.rendering import configs, engine
from orchestrator.rendering.surface import keys_mount
from orchestrator.spec import Spec
from orchestrator.spec_engine import Engine

MONITORING = ("sampler", "prometheus", "grafana")   # of the profile of that name, so not among `services`
_ALWAYS = ("ollama", "gateway", "adapter", "guard")
_DOCKERS_OWN = {"bridge", "host", "none"}  # cannot be joined under a name
_OURS = {"OLLAMA_HOST", "OLLAMA_NOPRUNE", "NVIDIA_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES"}


def context(spec: Spec, facts: Facts | None) -> dict[str, Any]:
    """Return the values of compose.yaml.j2."""
    return {
        "stack": spec.name,
        "project": configs.project(spec),
        "images": spec.images.model_dump(),
        "monitoring": spec.monitoring.model_dump(),
        "ollama": _ollama(spec),
        "gateway": _gateway(spec),
        "preloads": bool(spec.ollama.pinned),
        "shadows": bool(configs.shadowed(spec)),
        "engines": [one for name in spec.engines for one in _engines(spec, name, facts)],
        "volumes": _named(spec),
        "token_file": configs.TOKEN_FILE,
        "host": {name: configs.host(spec, name) for name in (*_ALWAYS, "preload", "shadow", *MONITORING)},
    }


def eager(spec: Spec, facts: Facts | None) -> dict[str, Any]:
    """Return the values of compose.eager.yaml.j2: the whole command again, as an override replaces a list."""
    commands = {
        service: engine.command(spec, name, facts, eager=True)
        for name in spec.engines for service in engine_services(spec, name)
    }  # fmt: skip
    return {"stack": spec.name, "commands": commands}


def services(spec: Spec) -> list[str]:
    """Return the services of a stack in the order in which they start."""
    pinned = ["preload"] if spec.ollama.pinned else []
    shadow = ["shadow"] if configs.shadowed(spec) else []
    return [*_ALWAYS, *pinned, *shadow, *(service for name in spec.engines for service in engine_services(spec, name))]


def engine_services(spec: Spec, name: str) -> list[str]:
    """Return the services of an engine's replicas."""
    return [f"vllm-{one}" for one in spec.replicas(name)]


def _ollama(spec: Spec) -> dict[str, Any]:
    ollama = spec.ollama
    env = {key: value for key, value in ollama.env.items() if key not in _OURS}
    env |= {"OLLAMA_HOST": "0.0.0.0:11434", "OLLAMA_NOPRUNE": "1"}
    if ollama.context_length:
        env["OLLAMA_CONTEXT_LENGTH"] = str(ollama.context_length)
    if ollama.num_parallel:
        env["OLLAMA_NUM_PARALLEL"] = str(ollama.num_parallel)
    if ollama.pinned:
        env |= {"OLLAMA_KEEP_ALIVE": "-1", "OLLAMA_MAX_LOADED_MODELS": str(len(ollama.pinned))}
    if not ollama.gpus:
        env["NVIDIA_VISIBLE_DEVICES"] = "void"
    return {
        "image": ollama.image,
        "gpus": list(ollama.gpus),
        "env": env,
        "volumes": list(ollama.volumes) or ["ollama:/root/.ollama"],
    }


def _gateway(spec: Spec) -> dict[str, Any]:
    joined = {name: list(aliases) for name, aliases in spec.ollama.networks.items() if name not in _DOCKERS_OWN}
    longest = max([spec.takeover.drain, *(one.drain for one in spec.engines.values())])
    return {
        "listen": spec.gateway.listen,
        "port": spec.gateway.port,
        "control_port": spec.gateway.control_port,
        "openai_port": spec.gateway.openai_port,
        "keys_mount": keys_mount(spec),
        "networks": [
            {"key": f"original-{at}", "name": name, "aliases": aliases}
            for at, (name, aliases) in enumerate(joined.items())
        ],
        "grace": f"{math.ceil(longest) + 30}s",
    }


def _engines(spec: Spec, name: str, facts: Facts | None) -> list[dict[str, Any]]:
    """Return an engine's replicas: the same vLLM on different GPUs."""
    same = _engine(spec, name, facts)
    return [
        {"name": one, "host": configs.host(spec, f"vllm-{one}"), "gpus": gpus, **same}
        for one, gpus in configs.slices(spec, name).items()
    ]


def _engine(spec: Spec, name: str, facts: Facts | None) -> dict[str, Any]:
    one: Engine = spec.engines[name]
    return {
        "image": one.image or spec.images.vllm,
        "command": engine.command(spec, name, facts),
        "env": engine.environment_of(spec, one),
        "volumes": engine.volumes_of(one),
        "shm": "8gb" if one.tensor_parallel > 1 else "1gb",
        "start_period": f"{math.ceil(one.start_timeout)}s",
        "grace": f"{math.ceil(one.drain) + 30}s",
    }


def _named(spec: Spec) -> list[dict[str, Any]]:
    """Return the volumes to declare: the stack's own, and those of the original, which exist already."""
    engines = spec.engines.values()
    own = ["gateway-state", "gpu-lock"] if spec.ollama.volumes else ["ollama", "gateway-state", "gpu-lock"]
    own += ["prometheus-data", "grafana-data"]
    own += ["shadow"] if configs.shadowed(spec) else []
    own += [cache for cache in ("hf-cache", "vllm-cache") if any(_uses(cache, one) for one in engines)]
    mounts = [*spec.ollama.volumes, *(mount for one in engines for mount in one.volumes)]
    foreign = dict.fromkeys(source for source in map(_volume, mounts) if source and source not in own)
    return [{"name": name, "external": False} for name in own] + [
        {"name": name, "external": True} for name in foreign
    ]


def _uses(cache: str, one: Engine) -> bool:
    return any(mount.startswith(f"{cache}:") for mount in engine.volumes_of(one))


def _volume(mount: str) -> str | None:
    source = mount.split(":", 1)[0]
    return source if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", source) and ":" in mount else None
