"""The articles' pre-migration checklist (S3: inventory, compatibility, process), each item with its evidence. Pure."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass

from orchestrator.decide import catalog
from orchestrator.decide.outlook import triggers
from orchestrator.facts import Facts, Gpu
from orchestrator.spec import Spec

PROVEN, OPEN, NOT = "proven", "open", "not applicable"
WIDTH = 100
_SIGNS = {PROVEN: "[x]", OPEN: "[ ]", NOT: "[-]"}
_LEAST = 8.0        # compute capability for full support, S3
_OLDEST = 7.0


@dataclass(frozen=True, slots=True)
class Item:
    """One item. state: proven, open or not applicable; `evidence` says why, `todo` what closes an open one."""

    section: str
    title: str
    state: str
    evidence: str
    todo: str = ""


def checklist(spec: Spec, facts: Facts, *, fits: bool | None = None) -> list[Item]:
    """Return the items in the article's order. `fits`: verdict of the VRAM proof, None where there was none."""
    return [
        *_inventory(facts), _gpu(spec, facts), _memory(spec, facts, fits), _toolkit(spec, facts), _docker(facts),
        _supported(spec), _token(spec), _baseline(facts), _window(facts), _triggers(spec), _notify(),
    ]  # fmt: skip


def checklist_text(items: list[Item]) -> str:
    """Return the checklist for people."""
    lines: list[str] = []
    section = ""
    for item in items:
        if item.section != section:
            section = item.section
            lines += ["", section] if lines else [section]
        said = f"{item.title}: {item.state}; {item.evidence}"
        said += f". To do: {item.todo}" if item.todo else ""
        first = f"  {_SIGNS[item.state]} "
        lines.append(textwrap.fill(said, WIDTH, initial_indent=first, subsequent_indent=" " * 6,
                                   break_long_words=False, break_on_hyphens=False))  # fmt: skip
    done = sum(item.state == PROVEN for item in items)
    left = sum(item.state == OPEN for item in items)
    return "\n".join([*lines, "", f"{done} proven, {left} open, {len(items) - done - left} not applicable"])


def _inventory(facts: Facts) -> list[Item]:
    named = "Inventory"
    models = facts.ollama.models
    unknown = [model.name for model in models if not model.quantization and not model.remote_host]
    listed = ", ".join(f"{model.name} ({model.quantization or 'quantisation unknown'})" for model in models)
    first = Item(named, "models and their quantisation", PROVEN if models and not unknown else OPEN,
                 listed or "Ollama lists no model",
                 "" if models and not unknown else "name the quantisation of each, from: ollama show")  # fmt: skip
    use = facts.traffic.models
    told = ", ".join(f"{name} {count}" for name, count in sorted((use or {}).items(), key=lambda one: -one[1]))
    second = Item(named, "which models are used most", PROVEN if use else OPEN,
                  f"requests in {facts.traffic.source}: {told}" if use else "nothing in the evidence tells",
                  "" if use else "migrate plan --watch 10m, or read the log with --log")  # fmt: skip
    return [first, second, _places(facts), _auth(facts)]


def _places(facts: Facts) -> Item:
    title = "every integration point, native or /v1"
    code = [one for one in facts.callers if one.kind != "doc"]
    seen = []
    if code:
        odd = sum(not one.works for one in code)
        seen.append(f"{len(code)} places in source, {odd} of them to look at")
    if facts.traffic.callers:
        seen.append(f"{len(facts.traffic.callers)} addresses in {facts.traffic.source}")
    if facts.traffic.native is not None:
        seen.append(f"{facts.traffic.native * 100:.0f} % native, {100 - facts.traffic.native * 100:.0f} % /v1")
    known = bool(code or facts.traffic.callers) and (bool(code) or facts.traffic.native is not None)
    return Item("Inventory", title, PROVEN if known else OPEN, "; ".join(seen) or "neither source nor log was read",
                "" if known else "migrate plan --scan PATH on the callers' source, --log FILE")  # fmt: skip


def _auth(facts: Facts) -> Item:
    title = "authentication of a proxy in front"
    if facts.proxy:
        return Item("Inventory", title, OPEN, facts.proxy, "point it at the gateway's address, which is Ollama's")
    return Item("Inventory", title, NOT, "no proxy with authentication was noticed on this machine")


def _gpu(spec: Spec, facts: Facts) -> Item:
    title = f"GPU and driver, compute capability {_LEAST} or higher"
    if spec.accelerator == "cpu":
        return Item("Compatibility", title, NOT, "accelerator is cpu: a rehearsal with vLLM's CPU build")
    used = _used(spec, facts)
    if not used:
        return Item("Compatibility", title, OPEN, facts.gpu_problem or "the GPUs of the spec were not seen here",
                    "run migrate doctor on the machine that serves")  # fmt: skip
    said = ", ".join(f"{gpu.name} {gpu.compute_capability:g}" for gpu in used)
    said += f"; CUDA of the driver: {facts.cuda or 'not seen'}"
    low = [gpu for gpu in used if gpu.compute_capability < _LEAST or gpu.vendor != "nvidia"]
    if not low:
        return Item("Compatibility", title, PROVEN, said)
    limited = all(gpu.vendor == "nvidia" and gpu.compute_capability >= _OLDEST for gpu in low)
    todo = "limited support only: test it, or take a newer GPU" if limited else "take a newer NVIDIA GPU"
    return Item("Compatibility", title, OPEN, said, todo)


def _used(spec: Spec, facts: Facts) -> list[Gpu]:
    wanted = {gpu for engine in spec.engines.values() for gpu in engine.gpus}
    return [gpu for gpu in facts.gpus if gpu.index in wanted or gpu.uuid in wanted]


def _memory(spec: Spec, facts: Facts, fits: bool | None) -> Item:
    title = "VRAM for both engines at once"
    if spec.accelerator == "cpu":
        return Item("Compatibility", title, NOT, "no GPU is used")
    free = ", ".join(f"GPU {gpu.index} {gpu.free / 2**30:.1f} of {gpu.total / 2**30:.1f} GiB free"
                     for gpu in _used(spec, facts)) or "no GPU was seen"  # fmt: skip
    if fits is None:
        return Item("Compatibility", title, OPEN, free, "migrate plan prints the proof")
    said = f"the plan's inequality {'holds' if fits else 'does not hold'}; {free}"
    return Item("Compatibility", title, PROVEN if fits else OPEN, said,
                "" if fits else "smaller or fewer models, another GPU, or a hand-over")  # fmt: skip


def _toolkit(spec: Spec, facts: Facts) -> Item:
    title = "NVIDIA Container Toolkit"
    if spec.accelerator == "cpu":
        return Item("Compatibility", title, NOT, "no GPU is used")
    container = facts.ollama.container
    if container and container.gpus and any(one.size_vram > 0 for one in facts.ollama.loaded):
        return Item("Compatibility", title, PROVEN, f"the container {container.name} holds a model in VRAM")
    return Item("Compatibility", title, OPEN, "no container with a GPU was seen at work", "migrate doctor starts one")


def _docker(facts: Facts) -> Item:
    title = "Docker Engine 23 or newer with Compose v2"
    found = facts.docker
    if found is None or found.problem:
        return Item("Compatibility", title, OPEN, found.problem if found else "Docker was not looked at",
                    "install both, then: migrate doctor")  # fmt: skip
    said = f"Engine {found.engine or 'unknown'}, Compose {found.compose or 'unknown'}"
    good = _major(found.engine) >= 23 and _major(found.compose) >= 2
    return Item("Compatibility", title, PROVEN if good else OPEN, said, "" if good else "update them")


def _major(version: str) -> int:
    first = version.strip().lstrip("vV").split(".")[0]
    return int(first) if first.isdecimal() else 0


def _supported(spec: Spec) -> Item:
    title = "vLLM supports the models"
    known = catalog.load()
    unsure = []
    for engine in spec.engines.values():
        entry = known.by_repo(engine.repo)
        if entry is None or not entry[0].supported:
            unsure.append(f"{engine.repo} is {'not in the catalogue' if entry is None else 'not supported'}")
    if not spec.engines:
        return Item("Compatibility", title, NOT, "no model migrates")
    repos = ", ".join(engine.repo for engine in spec.engines.values())
    said = "; ".join(unsure) or f"the catalogue has {repos}"
    return Item("Compatibility", title, OPEN if unsure else PROVEN, f"{said} (vLLM {known.vllm})",
                "compare config.json's architectures with vLLM's list" if unsure else "")  # fmt: skip


def _token(spec: Spec) -> Item:
    title = "Hugging Face token and licence"
    gated = [engine.repo for engine in spec.engines.values() if engine.gated]
    if not gated:
        return Item("Compatibility", title, NOT, "no repository of the plan is gated")
    return Item("Compatibility", title, OPEN, f"gated: {', '.join(gated)}",
                "accept the licence on the model's page and set HF_TOKEN")  # fmt: skip


def _baseline(facts: Facts) -> Item:
    seen = facts.traffic
    title = "baseline of latency, p95, throughput and errors"
    if seen.requests and seen.latency.p95 is not None:
        said = f"{seen.requests} requests in {seen.source}: p50 {_seconds(seen.latency.p50)}, "
        said += f"p95 {_seconds(seen.latency.p95)}, {seen.errors} errors, {seen.requests_per_minute:g} a minute at most"
        return Item("Process", title, PROVEN, said)
    return Item("Process", title, OPEN, "no latency was measured yet",
                "read the log with --log; `up` measures a baseline before anything is pinned")  # fmt: skip


def _seconds(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.2f} s"


def _window(facts: Facts) -> Item:
    hours = facts.traffic.peak_by_hour
    said = "nobody has set it"
    if hours:
        quiet = min(hours, key=lambda hour: (hours[hour], hour))
        said += f"; the quietest hour of the evidence is {quiet}:00"
    return Item("Process", "parallel-run window", OPEN, said, "choose it; --notice has a line for it")


def _triggers(spec: Spec) -> Item:
    said = triggers(spec.cutover.thresholds)
    return Item("Process", "rollback triggers", PROVEN, "in migrate.yaml: " + ", ".join(said))


def _notify() -> Item:
    return Item("Process", "the team is told", OPEN, "only you can know", "send it: migrate plan --notice")
