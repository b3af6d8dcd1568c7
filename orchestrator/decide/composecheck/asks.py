"""Which ports a service publishes, and which GPUs it asks for."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from orchestrator.decide.composecheck.values import Map, Seq
from orchestrator.decide.composecheck.words import fill, text_of, variables


@dataclass(frozen=True, slots=True)
class Port:
    """One published port; `host` is None where Docker chooses one or it cannot be told."""

    ip: str
    host: int | None
    inside: int | None
    line: int

    @property
    def open(self) -> bool:
        """Whether other machines reach it."""
        return not self.ip.startswith(("127.", "::1", "[::1", "localhost"))


@dataclass(frozen=True, slots=True)
class GpuAsk:
    """What a service asks for. ids: None is any; count: None is all."""

    ids: tuple[str, ...] | None
    count: int | None
    line: int
    form: str  # devices, gpus, runtime, cdi


def ports(value: Any, line: int, env: Mapping[str, str]) -> tuple[Port, ...]:
    found = []
    for item, at in zip(value, value.lines, strict=True) if isinstance(value, Seq) else ():
        if isinstance(item, Map):
            found.append(
                Port(
                    text_of(item.get("host_ip")),
                    _number(fill(text_of(item.get("published")), env)),
                    _number(fill(text_of(item.get("target")), env)),
                    at,
                )
            )
        elif item is not None and not isinstance(item, Seq):
            short = re.fullmatch(r"(?:(?P<ip>.*):)?(?P<host>[\d-]*):(?P<inside>[\d-]+)(?:/\w+)?", fill(str(item), env))
            inside = _number(fill(str(item), env).partition("/")[0])
            if short:
                found.append(Port(short["ip"] or "", _number(short["host"]), _number(short["inside"]), at))
            elif inside:
                found.append(Port("", None, inside, at or line))
    return tuple(found)


def _number(text: str) -> int | None:
    return int(text) if text.isdigit() else None


def gpu_asks(raw: Map, env: Mapping[str, str]) -> tuple[GpuAsk, ...]:
    """Return every way in which a service asks for GPUs."""
    found = list(_reserved(raw, env))
    gpus = raw.get("gpus")
    if isinstance(gpus, str):
        found.append(GpuAsk(None, None, raw.at("gpus"), "gpus"))
    elif isinstance(gpus, Seq):
        pairs = zip(gpus, gpus.lines, strict=True)
        found += [_device(one, at, env, "gpus") for one, at in pairs if isinstance(one, Map)]
    if raw.get("runtime") == "nvidia":
        seen = variables(raw.get("environment"), 0).get("NVIDIA_VISIBLE_DEVICES")
        text = fill(seen.text, env) if seen else "all"
        if text not in ("", "void", "none"):
            ids = None if text == "all" or "$" in text else tuple(one.strip() for one in text.split(","))
            found.append(GpuAsk(ids, len(ids) if ids else None, raw.at("runtime"), "runtime"))
    devices = raw.get("devices")
    for one in devices if isinstance(devices, Seq) else ():
        if isinstance(one, str) and one.startswith("nvidia.com/gpu="):
            name = one.partition("=")[2]
            found.append(GpuAsk(None if name == "all" else (name,), None, raw.at("devices"), "cdi"))
    return tuple(found)


def _reserved(raw: Map, env: Mapping[str, str]) -> list[GpuAsk]:
    node: Any = raw
    for key in ("deploy", "resources", "reservations", "devices"):
        node = node.get(key) if isinstance(node, Map) else None
    if not isinstance(node, Seq):
        return []
    return [
        _device(one, at, env, "devices")
        for one, at in zip(node, node.lines, strict=True)
        if isinstance(one, Map) and _is_gpu(one)
    ]


def _is_gpu(device: Map) -> bool:
    capabilities = device.get("capabilities")
    return device.get("driver") in ("nvidia", "cdi") or (isinstance(capabilities, Seq) and "gpu" in capabilities)


def _device(device: Map, line: int, env: Mapping[str, str], form: str) -> GpuAsk:
    ids, count = device.get("device_ids"), fill(text_of(device.get("count")), env)
    said = [fill(text_of(one), env) for one in ids] if isinstance(ids, Seq) else []
    # Docker joins them with commas, so that several in one text are several, too.
    names = tuple(one.strip() for text in said for one in text.split(",")) if isinstance(ids, Seq) else None
    return GpuAsk(names, len(names) if names is not None else _number(count), line, form)
