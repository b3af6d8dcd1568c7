"""An engine of the stack file: one vLLM, its adapters and replicas, and what is said to it directly."""

from __future__ import annotations

import re
from typing import Any, Literal

from pydantic import Field

from orchestrator.names import canonical
from orchestrator.spec_types import Bytes, Name, Seconds, Section


class Vllm(Section):
    """What the user says to vLLM directly; it wins over what is rendered, and is checked first."""

    args: tuple[str, ...] = Field((), description="flags of `vllm serve`, one argument each")
    env: dict[str, str] = Field(default_factory=dict, description="environment of the container; no secrets")
    speculative: dict[str, Any] | None = Field(None, description="--speculative-config, as a mapping")
    chunked_prefill: bool | None = Field(None, description="vLLM's own default where it is not said")


class Engine(Section):
    """One vLLM: a repository, its revision and quantisation."""

    repo: str = Field(description="Hugging Face repository, or a path inside the container")
    revision: str | None = None
    task: Literal["generate", "embed"] = "generate"
    quantization: str | None = Field(None, description="only when vLLM cannot read it from the repository")
    dtype: str = "auto"
    gpus: tuple[str, ...] = Field((), description="GPU indexes or UUIDs, one per tensor-parallel rank")
    max_model_len: int = Field(8192, ge=128)
    max_num_seqs: int = Field(16, ge=1)
    max_num_batched_tokens: int | None = Field(None, ge=1)
    kv_cache: Bytes = Field(2**30, description="absolute KV budget per GPU: --kv-cache-memory-bytes")
    gpu_memory_utilization: float = Field(0.9, gt=0, le=1, description="passes vLLM's start-up check")
    kv_cache_dtype: Literal["auto", "fp8"] = "auto"
    enforce_eager: bool = False
    tool_call_parser: str | None = None
    reasoning_parser: str | None = None
    gated: bool = Field(default=False, description="needs HF_TOKEN and an accepted licence")
    start_timeout: Seconds = Field(1800.0, description="how long `up` waits for the engine")
    drain: Seconds = Field(120.0, description="how long a stopping engine may finish its requests")
    vllm: Vllm = Vllm()
    extra_args: tuple[str, ...] = Field((), description="older name of vllm.args")
    env: dict[str, str] = Field(default_factory=dict, description="older name of vllm.env")
    volumes: tuple[str, ...] = ()
    image: str | None = Field(None, description="overrides images.vllm")
    adapters: dict[Name, str] = Field(
        default_factory=dict, description="LoRA adapters: name to PEFT directory or repository"
    )
    replicas: int = Field(1, ge=1, le=16, description="copies of this engine; `gpus` are divided among them")

    @property
    def tensor_parallel(self) -> int:
        """GPUs of one replica."""
        return max(1, len(self.gpus) // self.replicas)


def adapter_problems(engines: dict[str, Any], routes: dict[str, Any]) -> list[str]:
    """Return what is wrong with LoRA adapters and the routes that name them; works on raw data.

    Where vLLM knows no such name it answers with the base model, silently: a name must mean one thing.
    """
    problems: list[str] = []
    names = {canonical(str(name)): model for model, route in routes.items() for name in (model, *route["names"])}
    owners: dict[str, str] = {}
    for engine, one in engines.items():
        found = _adapters(one)
        for name, where in found.items():
            at = f"engines/{engine}/adapters/{name}"
            route = routes.get(names.get(canonical(name), ""), {})
            if route and (route["adapter"], route["engine"]) != (name, engine):
                problems.append(f"{at}: the name {name!r} belongs to the route {names[canonical(name)]!r}")
            if name in owners:
                problems.append(f"{at}: the name {name!r} belongs to an adapter of engine {owners[name]!r} already")
            owners.setdefault(name, engine)
            problems += [f"{at}: {problem}" for problem in _where_problems(where)]
        if found:
            problems += _beside(engine, one)
    for model, route in routes.items():
        problems += _route_adapter(model, route, engines)
    return problems


def _adapters(engine: Any) -> dict[str, Any]:
    found = engine.get("adapters") if isinstance(engine, dict) else None
    return {str(name): where for name, where in found.items()} if isinstance(found, dict) else {}


def _route_adapter(model: str, route: dict[str, Any], engines: dict[str, Any]) -> list[str]:
    name, at = route["adapter"], f"routes/{model}/adapter"
    if name is None:
        return []
    if not route["engine"]:
        return [f"{at}: name the engine that loads it"]
    known = _adapters(engines.get(route["engine"]))
    if route["engine"] in engines and name not in known:
        named = f"it has {', '.join(known)}" if known else f"name it in engines/{route['engine']}/adapters"
        return [f"{at}: engine {route['engine']!r} has no adapter {name!r} ({named})"]
    return [f"{at}: an embedding model takes no adapter here"] if route["kind"] == "embedding" else []


def _where_problems(where: Any) -> list[str]:
    if not isinstance(where, str):
        return []       # its type is told already
    if where.lower().endswith(".gguf"):
        return ["a GGUF adapter alone cannot be loaded by vLLM: name its PEFT directory"]
    if not where.strip() or where != where.strip() or any(mark in where for mark in ":\n$"):
        return [f"should be a PEFT directory or a repository (OWNER/NAME), without ':' or '$' (is {where!r})"]
    if where.startswith(("/", "./", "../", "~/")) or where in (".", "..") or where.count("/") > 1:
        return []
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", where):
        return [f"should be OWNER/NAME, or a directory that begins with / or ./ (is {where!r})"]
    return []


def _beside(name: str, engine: dict[str, Any]) -> list[str]:
    problems = []
    if engine.get("task") == "embed":
        problems.append(f"engines/{name}/adapters: an embedding model takes no adapter here")
    vllm = engine.get("vllm")
    said = [*_words(engine.get("extra_args")), *_words(vllm.get("args") if isinstance(vllm, dict) else ())]
    for word in said:
        flag = word.partition("=")[0].replace("_", "-")
        if flag in ("--lora-modules", "--enable-lora", "--no-enable-lora"):
            problems.append(f"engines/{name}/vllm: {flag} is rendered from adapters: name the adapter there")
    return problems


def _words(value: Any) -> list[str]:
    return [str(word) for word in value] if isinstance(value, list | tuple) else []
