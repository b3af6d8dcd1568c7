"""One vLLM: its command line, its environment, the names it answers to."""

from __future__ import annotations

import json
import math
from typing import Any

from orchestrator.decide import adapters
from orchestrator.decide.mapping import is_local
from orchestrator.decide.vllm_args import merge
from orchestrator.decide.vllm_named import named
from orchestrator.facts import Facts, Model
from orchestrator.names import canonical
from orchestrator.spec import Spec
from orchestrator.spec_engine import Engine

_HF_HOME = "/root/.cache/huggingface"
_VLLM_CACHE = "/root/.cache/vllm"
# Modelfile parameter -> vLLM's name. temperature and top_p are not here: Ollama's own /v1 forces 1.0.
_SAMPLING = {"top_k": "top_k", "min_p": "min_p", "repeat_penalty": "repetition_penalty"}
_OLLAMA_TOP_K = 40


def model_of(facts: Facts | None, route: str) -> Model | None:
    """Return what is known of the model behind a route."""
    models = facts.ollama.models if facts else ()
    return next((m for m in models if canonical(m.name) == canonical(route)), None)


def routes_of(spec: Spec, engine: str) -> list[str]:
    """Return the routes that share an engine, the one that names it first."""
    return [model for model, route in spec.routes.items() if route.engine == engine]


def base_routes(spec: Spec, engine: str) -> list[str]:
    """Return those that the engine's own model answers, not one of its LoRA adapters."""
    return [model for model in routes_of(spec, engine) if spec.routes[model].adapter is None]


def sampling(model: Model | None) -> dict[str, Any]:
    """Return the sampling defaults that Ollama's /v1 applies to this model when a client says nothing."""
    found: dict[str, Any] = {"temperature": 1.0, "top_p": 1.0, "top_k": _OLLAMA_TOP_K}
    parameters = model.parameters if model else {}
    found |= {theirs: parameters[ours] for ours, theirs in _SAMPLING.items() if ours in parameters}
    return found


def served_names(spec: Spec, name: str) -> list[str]:
    """Return every name for --served-model-name; vLLM answers with the first one.

    An adapter's names are not among them: vLLM prefers the base model where both bear a name.
    """
    names: list[str] = []
    for model in base_routes(spec, name):
        names += [model, canonical(model), canonical(model).removesuffix(":latest")]
        names += spec.routes[model].names
    if not spec.engines[name].repo.startswith(("/", ".")):
        names.append(spec.engines[name].repo)
    return list(dict.fromkeys(names)) or [spec.engines[name].repo]


def command(spec: Spec, name: str, facts: Facts | None, *, eager: bool = False) -> list[str]:
    """Return the arguments of `vllm serve`, the model first: the images' entrypoint takes it by position."""
    engine = spec.engines[name]
    flags = [engine.repo, "--served-model-name", *served_names(spec, name)]
    flags += _value("--revision", engine.revision) + _value("--quantization", engine.quantization)
    flags += _value("--dtype", dtype(spec.accelerator, engine), unless="auto")
    flags += ["--max-model-len", str(engine.max_model_len), "--max-num-seqs", str(engine.max_num_seqs)]
    flags += _value("--max-num-batched-tokens", engine.max_num_batched_tokens)
    flags += _memory(spec, engine)
    flags += adapters.flags(spec, name, facts)
    flags += _behaviour(engine, model_of(facts, (base_routes(spec, name) or routes_of(spec, name))[0]))
    if eager or engine.enforce_eager:
        flags.append("--enforce-eager")
    flags += ["--shutdown-timeout", str(math.ceil(engine.drain))]
    return merge(flags, user_flags(engine))


def dtype(accelerator: str, engine: Engine) -> str:
    """Return the type of an engine's numbers; one that embeds on a CPU needs its own.

    vLLM's choice there is 16 bit, with which the core of a pooling model dies at its first request on CPUs without
    the instructions for it; weights that embed are small, and Ollama's vectors are 32 bit as well.
    """
    return "float32" if (accelerator, engine.task, engine.dtype) == ("cpu", "embed", "auto") else engine.dtype


def user_flags(engine: Engine) -> list[str]:
    """Return what the spec says to vLLM in vLLM's own words."""
    said = named(engine.vllm.speculative, chunked_prefill=engine.vllm.chunked_prefill)
    return [*said, *engine.extra_args, *engine.vllm.args]


def _value(flag: str, value: Any, unless: Any = None) -> list[str]:
    return [] if value in (None, unless) else [flag, str(value)]


def _memory(spec: Spec, engine: Engine) -> list[str]:
    if spec.accelerator == "cpu":
        return []
    # Both: the absolute budget sizes the cache, and the utilisation still rules the check at start-up.
    flags = ["--gpu-memory-utilization", str(engine.gpu_memory_utilization)]
    if engine.kv_cache:
        flags += ["--kv-cache-memory-bytes", str(engine.kv_cache)]
        flags += _value("--kv-cache-dtype", engine.kv_cache_dtype, unless="auto")
    return flags + _value("--tensor-parallel-size", engine.tensor_parallel, unless=1)


def _behaviour(engine: Engine, model: Model | None) -> list[str]:
    if engine.task == "embed":
        return ["--runner", "pooling"]
    defaults = json.dumps(sampling(model), separators=(",", ":"))
    flags = ["--generation-config", "vllm", "--override-generation-config", defaults]
    if engine.tool_call_parser:
        flags += ["--enable-auto-tool-choice", "--tool-call-parser", engine.tool_call_parser]
    return flags + _value("--reasoning-parser", engine.reasoning_parser)


def environment_of(spec: Spec, engine: Engine) -> dict[str, str]:
    """Return the environment of an engine's container; a token only by reference."""
    found = {
        "HF_HOME": _HF_HOME,
        "VLLM_SKIP_MODEL_NAME_VALIDATION": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
        "VLLM_HTTP_TIMEOUT_KEEP_ALIVE": "180",
        "VLLM_ENGINE_READY_TIMEOUT_S": "3600",
        "VLLM_MEDIA_URL_ALLOW_REDIRECTS": "0",
    }
    if spec.accelerator == "cpu":
        found["VLLM_CPU_KVCACHE_SPACE"] = str(max(1, math.ceil(engine.kv_cache / 2**30)))
    if engine.gated:
        why = f"{engine.repo} is gated: accept its licence on huggingface.co and put a read token into .env"
        found["HF_TOKEN"] = "${HF_TOKEN:?" + why + "}"
    if engine.repo.startswith("/") and all(is_local(where) for where in engine.adapters.values()):
        found["HF_HUB_OFFLINE"] = "1"
    return found | engine.env | engine.vllm.env


def volumes_of(engine: Engine) -> list[str]:
    """Return the engine's caches, its adapters and the user's mounts; one of the user's on a cache replaces it."""
    own = {_HF_HOME: f"hf-cache:{_HF_HOME}", _VLLM_CACHE: f"vllm-cache:{_VLLM_CACHE}"}
    taken = {mount.split(":")[1] for mount in engine.volumes if ":" in mount}
    return [mount for target, mount in own.items() if target not in taken] + [*adapters.mounts(engine), *engine.volumes]
