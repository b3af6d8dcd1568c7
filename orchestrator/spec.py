"""The stack file `migrate.yaml`: what the user wants, validated; every error at once, each with its path."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field, ValidationError, field_validator, model_validator
from yaml.constructor import ConstructorError

from orchestrator.errors import UsageError
from orchestrator.names import canonical
from orchestrator.spec_engine import Engine, adapter_problems
from orchestrator.spec_gateway import Gateway
from orchestrator.spec_load import Load
from orchestrator.spec_needs import Needs
from orchestrator.spec_parity import Parity
from orchestrator.spec_types import Name, Percent, Port, Seconds, Section, Shadow

_MOST_REPLICAS = 16  # as the field says


class Ollama(Section):
    """Today's Ollama, and how the stack runs it."""

    url: str = Field("http://127.0.0.1:11434", description="where clients reach Ollama today")
    container: str | None = Field(None, description="its container; none: it does not run in Docker here")
    image: str = Field("ollama/ollama:0.32.6", description="what the stack runs: the image of the original")
    gpus: tuple[str, ...] = Field((), description="GPU indexes or UUIDs that the stack's Ollama may use")
    context_length: int | None = Field(None, ge=256, description="pinned OLLAMA_CONTEXT_LENGTH")
    num_parallel: int | None = Field(None, ge=1, description="pinned OLLAMA_NUM_PARALLEL")
    pinned: tuple[str, ...] = Field((), description="models kept loaded while both engines share a GPU")
    env: dict[str, str] = Field(default_factory=dict, description="environment carried over or added")
    volumes: tuple[str, ...] = Field((), description="mounts carried over: SOURCE:TARGET[:ro]")
    networks: dict[str, tuple[str, ...]] = Field(
        default_factory=dict, description="Docker networks of the original and its names there"
    )


class Images(Section):
    """Every image of the stack."""

    vllm: str = "vllm/vllm-openai:v0.30.0"
    gateway: str = "openresty/openresty:1.29.2.5-0-alpine"
    sidecar: str = Field("migrate/sidecar:0.1.0", description="adapter, guard, preload; built by `up`")
    python: str = Field("python:3.11-slim-bookworm", description="base on which the sidecar is built")
    prometheus: str = Field("prom/prometheus:v3.14.0", description="only for the profile `monitoring`")
    grafana: str = Field("grafana/grafana:13.2.2", description="only for the profile `monitoring`")


class Monitoring(Section):
    """The profile `monitoring` of the stack: Prometheus and Grafana, started only when asked for."""

    port: Port = Field(11481, description="Grafana, always on loopback")


class Route(Section):
    """One Ollama name and the engine that is to serve it; no engine: it stays on Ollama."""

    engine: Name | None = None
    adapter: Name | None = Field(None, description="LoRA adapter of that engine which answers under this name")
    names: tuple[str, ...] = Field((), description="further names clients may use")
    kind: Literal["generate", "embedding"] = "generate"
    sticky: bool | None = Field(None, description="as gateway.sticky, for this route alone")
    shadow: Shadow | None = Field(None, description="ask vLLM a share of what Ollama answers as well; none: off")

    @model_validator(mode="after")
    def _shadowed(self) -> Route:
        if self.shadow and (self.kind == "embedding" or not self.engine):
            raise ValueError("shadow needs a route that generates, with an engine")
        return self


class TakeOver(Section):
    """How the gateway takes the port."""

    drain: Seconds = Field(60.0, description="how long running answers of the original are waited for")
    when_busy: Literal["cut", "abort"] = Field("cut", description="after that: cut what is left, or undo")
    redirect: bool = Field(default=True, description="use nat rules, so that nothing is refused")


class Thresholds(Section):
    """What a side may do before the cutover goes back by itself."""

    error_rate: float = Field(0.02, ge=0, le=1, description="share of requests that are not complete")
    ttft_p95: Seconds | None = Field(None, description="absolute limit")
    ttft_ratio: float | None = Field(3.0, gt=0, description="vLLM's median TTFT over Ollama's")
    e2e_ratio: float | None = Field(3.0, gt=0, description="vLLM's median total time over Ollama's")


class Cutover(Section):
    """Steps of the traffic shift."""

    steps: tuple[Percent, ...] = (10, 50, 100)
    bake: Seconds = Field(60.0, description="least time at each step before it is judged")
    min_requests: int = Field(20, ge=1, description="vLLM requests needed for a verdict at a step")
    patience: Seconds = Field(600.0, description="longest wait for enough requests at a step")
    lease: Seconds = Field(30.0, ge=2, description="the guard steps back when the command is silent for this")
    thresholds: Thresholds = Thresholds()

    @field_validator("steps")
    @classmethod
    def _rising(cls, steps: tuple[float, ...]) -> tuple[float, ...]:
        if not steps or list(steps) != sorted(set(steps)) or steps[0] <= 0 or steps[-1] != 100:
            raise ValueError("should rise and end at 100, such as [10, 50, 100]")
        return steps


class Spec(Section):
    """A whole stack."""

    version: Literal[1] = 1
    name: Name
    accelerator: Literal["nvidia", "cpu"] = "nvidia"
    ollama: Ollama = Ollama()
    gateway: Gateway = Gateway()
    images: Images = Images()
    monitoring: Monitoring = Monitoring()
    engines: dict[Name, Engine] = Field(default_factory=dict)
    routes: dict[str, Route] = Field(default_factory=dict)
    takeover: TakeOver = TakeOver()
    parity: Parity = Parity()
    load: Load = Load()
    cutover: Cutover = Cutover()
    needs: Needs = Needs()

    @model_validator(mode="after")
    def _joined(self) -> Spec:
        problems = cross_problems(self.model_dump())
        if problems:
            raise ValueError("; ".join(problems))
        return self

    def migrating(self) -> dict[str, Route]:
        """Routes that move to an engine, in the file's order."""
        return {model: route for model, route in self.routes.items() if route.engine}

    def replicas(self, engine: str) -> tuple[str, ...]:
        """Names of an engine's copies; the first bears the engine's own, so that a second leaves it alone."""
        return replica_names(engine, self.engines[engine].replicas)


def replica_names(engine: str, count: int) -> tuple[str, ...]:
    """Return NAME, NAME-2, NAME-3 and so on."""
    return (engine, *(f"{engine}-{at}" for at in range(2, count + 1)))


def cross_problems(data: dict[str, Any]) -> list[str]:
    """Return what does not fit together in the file; works on raw data, so that it adds to other errors."""
    engines = _mapping(data.get("engines"))
    routes = {k: _plain(v) for k, v in _mapping(data.get("routes")).items() if isinstance(v, dict)}
    found = [*_route_problems(engines, routes), *_engine_problems(engines, routes, data.get("accelerator"))]
    return [*found, *adapter_problems(engines, routes)]


def _route_problems(engines: dict[str, Any], routes: dict[str, Any]) -> list[str]:
    problems = []
    seen: dict[str, str] = {}
    for model, route in routes.items():
        if route["engine"] and route["engine"] not in engines:
            problems.append(f"routes/{model}/engine: there is no engine {route['engine']!r}")
        for name in (model, *route["names"]):
            other = seen.setdefault(canonical(str(name)), model)
            if other != model:
                problems.append(f"routes/{model}: the name {name!r} belongs to {other!r} already")
    return problems


def _engine_problems(engines: dict[str, Any], routes: dict[str, Any], accelerator: Any) -> list[str]:
    problems = []
    used = {route["engine"] for route in routes.values()}
    for name, engine in engines.items():
        if name not in used:
            problems.append(f"engines/{name}: no route uses it")
        if not isinstance(engine, dict):
            continue
        if accelerator in (None, "nvidia") and not engine.get("gpus"):
            problems.append(f"engines/{name}/gpus: name at least one GPU, or set accelerator: cpu")
        if accelerator == "cpu" and engine.get("gpus"):
            problems.append(f"engines/{name}/gpus: accelerator is cpu, so leave it out")
        problems += _replica_problems(str(name), engine, engines)
    return problems


def _replica_problems(name: str, engine: dict[str, Any], engines: dict[str, Any]) -> list[str]:
    count, gpus = engine.get("replicas", 1), engine.get("gpus")
    if not isinstance(count, int) or isinstance(count, bool) or not 1 < count <= _MOST_REPLICAS:
        return []  # told by its own field, or nothing to divide
    problems = [
        f"engines/{other}: replica {at} of {name!r} would bear this name, so rename one of them"
        for at, other in enumerate(replica_names(name, count), 1) if at > 1 and other in engines
    ]  # fmt: skip
    if isinstance(gpus, list | tuple) and gpus:
        if len(gpus) % count:
            problems.append(
                f"engines/{name}/replicas: {len(gpus)} GPU{'s' * (len(gpus) > 1)} cannot be divided equally among "
                f"{count} replicas, so name {count} GPUs or a multiple of {count}"
            )
        if len({str(gpu) for gpu in gpus}) < len(gpus):
            problems.append(f"engines/{name}/gpus: a GPU is named twice, and each replica needs its own")
    return problems


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _plain(route: dict[str, Any]) -> dict[str, Any]:
    """Keep what has the right type: the rest is told by its own field."""
    names = route.get("names")
    kept = [name for name in names if isinstance(name, str)] if isinstance(names, list | tuple) else []
    words = {key: route.get(key) if isinstance(route.get(key), str) else None for key in ("engine", "adapter", "kind")}
    return {**words, "names": kept}


class _Loader(yaml.SafeLoader):
    """Refuses a key that is there twice: YAML would silently keep the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value in seen:
                raise ConstructorError(None, None, f"the key {key.value!r} is there twice", key.start_mark)
            seen.add(str(key.value))
        return super().construct_mapping(node, deep)


def parse_spec(text: str, where: str = "migrate.yaml") -> Spec:
    """Return the spec in `text`; raises UsageError listing every problem with its path."""
    try:
        data = yaml.load(text, Loader=_Loader)  # noqa: S506 - a SafeLoader
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        at = f" at line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise UsageError(f"{where} is not valid YAML{at}: {problem}", hint=f"edit {where}") from None
    if not isinstance(data, dict):
        expected = "should be a mapping with `name`, `engines` and `routes`"
        raise UsageError(f"{where}: {expected}", hint=f"edit {where}")
    try:
        return Spec.model_validate(data)
    except ValidationError as error:
        lines = [line for item in error.errors() for line in _explain(item)]
        lines += [line for line in cross_problems(data) if line not in lines]
        count = f"{len(lines)} problem{'s' if len(lines) != 1 else ''}"
        raise UsageError(f"{where}: {count}", evidence="\n".join(lines), hint=f"edit {where}") from None


def load_spec(path: Path) -> Spec:
    """Read and validate the stack file at `path`."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UsageError(f"there is no stack file {path}", hint="run: migrate plan") from None
    except (OSError, UnicodeDecodeError) as error:
        hint = f"check that {path} is a readable text file"
        raise UsageError(f"cannot read {path}: {error}", hint=hint) from None
    return parse_spec(text, str(path))


def _explain(item: Any) -> list[str]:
    path = "/".join(str(part) for part in item["loc"] if part != "[key]")
    kind, message = item["type"], item["msg"]
    if kind == "value_error" and not path:
        return str(item["ctx"]["error"]).split("; ")
    if kind == "extra_forbidden":
        message = "unknown key"
    elif kind == "missing":
        message = "is missing"
    elif kind == "value_error":
        message = str(item["ctx"]["error"])
    else:
        shown = repr(item.get("input"))
        message = message.replace("Input should", "should") + f" (is {shown[:60]})"
    return [f"{path}: {message}"]
