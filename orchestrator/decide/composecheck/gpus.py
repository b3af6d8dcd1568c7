"""Who gets which GPU, and in which form the file says so."""

from __future__ import annotations

import math

from orchestrator.decide.catalog import load
from orchestrator.decide.composecheck.commandline import command, model_of
from orchestrator.decide.composecheck.project import Card, Project, apart
from orchestrator.decide.composecheck.service import Service
from orchestrator.decide.composecheck.values import Map, Seq
from orchestrator.decide.finding import Finding
from orchestrator.decide.vllm_flags import Line, read


def check(project: Project) -> list[Finding]:
    found = []
    for service in [*project.of("vllm"), *project.of("ollama")]:
        found += _forms(service) + _none(service, project)
    for service in project.of("vllm"):
        found += _parallel(service, read(command(service)[0]), project.card)
    return found


def _forms(service: Service) -> list[Finding]:
    found = []
    forms = {ask.form for ask in service.gpus}
    if "runtime" in forms and len(forms) > 1:
        found.append(
            Finding(
                "warning",
                service.name,
                "asks for GPUs twice: runtime: nvidia shows all of them, whatever the reservation says",
                "keep the reservation with device_ids",
                code="gpu-twice",
                line=service.at("runtime"),
            )
        )
    resources = service.get("deploy", "resources")
    for place in ("limits", ""):
        wrong = service.get("deploy", "resources", *filter(None, (place,)))
        if isinstance(wrong, Map) and "devices" in wrong:
            found.append(
                Finding(
                    "error",
                    service.name,
                    "devices belong below `reservations`: this reserves nothing",
                    "deploy: resources: reservations: devices",
                    line=wrong.at("devices"),
                    code="gpu-place",
                )
            )
    reserved = resources.get("reservations") if isinstance(resources, Map) else None
    devices = reserved.get("devices") if isinstance(reserved, Map) else None
    for device in devices if isinstance(devices, Seq) else ():
        if isinstance(device, Map):
            found += _device(service, device)
    return found


def _device(service: Service, device: Map) -> list[Finding]:
    found = []
    ids = device.get("device_ids")
    if "count" in device and "device_ids" in device:
        found.append(
            Finding(
                "error",
                service.name,
                "count and device_ids exclude each other; Compose refuses both",
                "keep device_ids",
                line=device.at("count"),
                code="count-and-ids",
            )
        )
    if "capabilities" not in device:
        found.append(
            Finding(
                "error",
                service.name,
                "the reservation lacks capabilities, which Compose requires",
                "capabilities: [gpu]",
                line=device.line,
                code="capabilities",
            )
        )
    if isinstance(ids, Seq) and any(not isinstance(one, str) for one in ids):
        found.append(
            Finding(
                "error",
                service.name,
                "device_ids holds numbers; Compose wants text",
                f"device_ids: {[str(one) for one in ids]}",
                line=device.at("device_ids"),
                code="ids-text",
            )
        )
    elif ids is not None and not isinstance(ids, Seq):
        found.append(
            Finding(
                "error",
                service.name,
                "device_ids is no list",
                f"device_ids: ['{ids}']",
                line=device.at("device_ids"),
                code="ids-text",
            )
        )
    return found


def _none(service: Service, project: Project) -> list[Finding]:
    if service.gpus or service.partial or "cpu" in f"{service.image}{service.tag}" or "privileged" in service.raw:
        return []
    resources = service.get("deploy", "resources")
    inner = [resources, *resources.values()] if isinstance(resources, Map) else []
    if any(isinstance(one, Map) and "devices" in one for one in inner):
        return []  # a reservation that is wrong is told elsewhere
    if "rocm" in f"{service.image}{service.tag}" or service.get("devices"):
        return []
    fix = "deploy: resources: reservations: devices: [{driver: nvidia, device_ids: ['0'], capabilities: [gpu]}]"
    if service.kind == "vllm":
        return [
            Finding(
                "error",
                service.name,
                "reserves no GPU: vLLM stops with `Failed to infer device type`",
                fix,
                line=service.line,
                code="no-gpu",
            )
        ]
    others = any(one.gpus for one in project.services if not apart(one, service))
    return (
        [
            Finding(
                "warning",
                service.name,
                "reserves no GPU: Ollama then computes on the CPU without a word",
                fix,
                line=service.line,
                code="ollama-cpu",
            )
        ]
        if others
        else []
    )


def _parallel(service: Service, line: Line, card: Card | None) -> list[Finding]:
    ranks = tensor_parallel(line)
    if ranks < 2:
        return []
    found = []
    asked = service.gpus[0] if service.gpus else None
    count = asked.count if asked and asked.count is not None else (card.count if card else 0)
    at = next((word.line for word in service.argv if word.text.startswith(("--tensor", "-tp"))), service.line)
    if asked and count and ranks > count:
        found.append(
            Finding(
                "error",
                service.name,
                f"--tensor-parallel-size {ranks}, but the container gets {count} GPU{'s' * (count > 1)}",
                f"reserve {ranks}, or lower it",
                line=at,
                code="tp-gpus",
            )
        )
    known = load().by_repo(model_of(line))
    heads = known[0].numbers.heads if known else None
    if heads and heads % ranks:
        found.append(
            Finding(
                "error",
                service.name,
                f"{heads} attention heads cannot be split over {ranks} GPUs",
                "take 2, 4 or 8",
                line=at,
                code="tp-heads",
            )
        )
    if service.get("ipc") != "host" and service.get("shm_size") is None and not service.partial:
        found.append(
            Finding(
                "error",
                service.name,
                "tensor parallelism talks through /dev/shm, which has 64 MB here",
                "shm_size: 8gb, or ipc: host",
                line=service.line,
                code="shm",
            )
        )
    return found


def ranks_of(line: Line) -> int:
    """Return how many GPUs one service computes on: tensor, pipeline and data parallel ranks."""
    flags = ("--tensor-parallel-size", "--pipeline-parallel-size", "--data-parallel-size")
    sizes = [option.value for flag in flags if (option := line.get(flag)) and option.value and option.value.isdigit()]
    return math.prod(int(size) for size in sizes) or 1


def tensor_parallel(line: Line) -> int:
    option = line.get("--tensor-parallel-size")
    return int(option.value) if option and option.value and option.value.isdigit() else 1
