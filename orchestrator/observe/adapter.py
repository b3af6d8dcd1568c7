"""Looks at a LoRA adapter that the spec names: a PEFT directory, or a repository of the Hub."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from orchestrator.clients.hub import Hub, local_weights, parsed, read_local, snapshot
from orchestrator.decide.catalog import Numbers
from orchestrator.decide.lora import Adapter, adapter
from orchestrator.decide.mapping import is_local
from orchestrator.errors import UsageError

_CONFIG = "adapter_config.json"


def look(name: str, where: str, numbers: Numbers, hub: Hub | None = None) -> Adapter:
    """Read an adapter's configuration; raises UsageError when there is none. `numbers`: its base's shape."""
    if is_local(where):
        folder = Path(where).expanduser()
        return _checked(name, where, read_local(folder, _CONFIG), numbers, local_weights(folder))
    own = hub or Hub()
    try:
        config, size = _from_hub(where, own)
    finally:
        if hub is None:
            own.close()
    return _checked(name, where, config, numbers, size)


def _from_hub(repo: str, hub: Hub) -> tuple[Any, int | None]:
    if not hub.offline:
        answer = hub.file(repo, _CONFIG)
        if answer.status == 200:
            sizes = [one.get("size") for one in hub.tree(repo) or [] if one.get("path") == "adapter_model.safetensors"]
            return parsed(answer.body), sizes[0] if sizes and isinstance(sizes[0], int) else None
    folder = snapshot(hub.cache, repo)
    return (read_local(folder, _CONFIG), local_weights(folder)) if folder else (None, None)


def _checked(name: str, where: str, config: Any, numbers: Numbers, size: int | None) -> Adapter:
    if not isinstance(config, dict):
        raise UsageError(
            f"adapter {name}: {where} has no readable {_CONFIG}",
            hint="Name the directory or repository that PEFT wrote (adapter_config.json, adapter_model.safetensors); "
            "a GGUF adapter cannot be loaded by vLLM.",
        )
    return adapter(name, where, config, numbers, size)
