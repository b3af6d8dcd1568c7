"""What the gateway's doors let in, from the spec: its part of config.json, of nginx.conf and of compose.yaml."""

from __future__ import annotations

import ipaddress
from pathlib import PurePosixPath
from typing import Any

from orchestrator.facts import Facts
from orchestrator.names import canonical
from orchestrator.spec import Spec

KEYS_DIR = "/etc/gateway/keys"
OPENAI_LISTEN = "0.0.0.0:8000"


def surface(spec: Spec) -> dict[str, Any]:
    """Return the config's `surface`, without what is not asked for."""
    gateway, found = spec.gateway, dict[str, Any]()
    if origins := spec.ollama.env.get("OLLAMA_ORIGINS"):
        found["origins"] = origins
    if checks_host(spec):
        found["hosts"] = True
    if gateway.read_only:
        found["read_only"] = True
    if gateway.keys:
        name = PurePosixPath(gateway.keys.file).name
        found["keys"] = {"file": f"{KEYS_DIR}/{name}", "mode": gateway.keys.mode}
    return found


def checks_host(spec: Spec) -> bool:
    """Tell whether foreign Host headers are refused, as by default an Ollama outside Docker on loopback does.

    In its image Ollama listens on every address and asks nobody, wherever the port is published.
    """
    if spec.gateway.check_host is not None:
        return spec.gateway.check_host
    outside = spec.ollama.container is None and not spec.ollama.networks
    return outside and ipaddress.ip_address(spec.gateway.listen).is_loopback


def doors(spec: Spec) -> dict[str, Any]:
    """Return what nginx.conf.j2 has to know of it."""
    gate = surface(spec).keys() & {"hosts", "read_only", "keys"}
    return {"gate": bool(gate), "openai_listen": OPENAI_LISTEN if spec.gateway.openai_port else ""}


def keys_mount(spec: Spec) -> tuple[str, str] | None:
    """Return folder and target of the keys; a file alone would be lost to the container when it is replaced."""
    if spec.gateway.keys is None:
        return None
    folder = str(PurePosixPath(spec.gateway.keys.file).parent)
    return folder if folder.startswith("/") else f"./{folder}", KEYS_DIR


def of_route(spec: Spec, engine: str, names: list[str], facts: Facts | None) -> dict[str, Any]:
    """Return what the gateway needs of a route beside where it goes.

    `root` and `context` for the list of models; `foreign`: the names that mean nothing to Ollama, which is asked
    under its own.
    """
    one = spec.engines[engine]
    known = {canonical(model.name) for model in facts.ollama.models} if facts else None
    foreign = [name for name in names if (canonical(name) not in known if known is not None else name == one.repo)]
    found: dict[str, Any] = {"root": one.repo}
    if one.max_model_len:
        found["context"] = one.max_model_len
    return found | ({"foreign": foreign} if foreign else {})
