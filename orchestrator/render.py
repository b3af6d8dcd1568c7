"""Spec and facts to the files of a stack: pure, except for `write`."""

from __future__ import annotations

import os
import secrets
import tempfile
from pathlib import Path

from orchestrator.facts import Facts
from orchestrator.rendering import configs, engine, stack
from orchestrator.rendering.devices import for_docker
from orchestrator.rendering.environment import asset, document, fill, template_root
from orchestrator.rendering.surface import doors
from orchestrator.spec import Spec

_FILLED = ("prometheus.yml", "datasource.yaml")
_WORKERS = 4  # some 10,000 requests per second; more would only take memory
TOKEN = "secrets/control.token"  # noqa: S105 - a path
GUARD_NOTES = ".state/guard"    # what the guard writes down; made here, or Docker would make it root's


def render(spec: Spec, facts: Facts | None = None, *, role: str = "final") -> dict[str, str]:
    """Return every rendered file of the stack by its relative path.

    `facts` add what Ollama says of its models; without them the adapter knows only their names, and MIG instances
    stand as the spec has them.
    """
    spec = for_docker(spec, facts)
    files = {
        "compose.yaml": fill("compose.yaml.j2", **stack.context(spec, facts)),
        "compose.eager.yaml": fill("compose.eager.yaml.j2", **stack.eager(spec, facts)),
        ".env.example": fill("env.example.j2", **_needs(spec)),
        "adapter/config.json": document(configs.adapter(spec, facts)),
        "guard/config.json": document(configs.guard(spec, facts)),
        "engine/start.py": asset("engine/start.py"),
    }
    files |= _gateway(spec, facts, role) | _monitoring(spec)
    if configs.shadowed(spec):
        files["shadow/config.json"] = document(configs.shadow(spec))
    if spec.ollama.pinned:
        files["preload/config.json"] = document(configs.preload(spec, facts))
    for name in spec.engines:
        files |= {f"engine/{one}.json": document(start) for one, start in configs.start(spec, name, facts).items()}
    return dict(sorted(files.items()))


def _gateway(spec: Spec, facts: Facts | None, role: str) -> dict[str, str]:
    config = configs.gateway(spec, facts, role)
    files = {"gateway/config.json": document(config)}
    files["gateway/nginx.conf"] = fill(
        "gateway/nginx.conf.j2",
        ollama=config["ollama"],
        adapter=config["adapter"],
        engines=config["engines"],
        resolver="127.0.0.11",  # Docker's own: a recreated container has a new address
        workers=_WORKERS,
        public_listen="0.0.0.0:11434",
        control_listen="0.0.0.0:9180",
        **doors(spec),
        etc_dir="/etc/gateway",
        state_dir="/var/lib/gateway",
        pid="/var/lib/gateway/nginx.pid",
    )
    for path in sorted((template_root() / "gateway" / "lua").glob("*.lua")):
        files[f"gateway/lua/{path.name}"] = path.read_text(encoding="utf-8")
    return files


def _monitoring(spec: Spec) -> dict[str, str]:
    values = configs.monitoring(spec)
    files = {f"monitoring/{name}": fill(f"monitoring/{name}.j2", **values) for name in _FILLED}
    return files | {f"monitoring/{name}": asset(f"monitoring/{name}") for name in ("dashboards.yaml", "dashboard.json")}


def _needs(spec: Spec) -> dict[str, object]:
    return {"stack": spec.name, "gated": [one.repo for one in spec.engines.values() if one.gated]}


def write(folder: Path, files: dict[str, str]) -> list[str]:
    """Write the files below `folder`; return the paths that changed. A full disk leaves each whole, old or new.

    Makes the control token once; it is never rendered, replaced or returned.
    """
    changed = put(folder, files)
    if not (folder / TOKEN).exists():
        replace_file(folder / TOKEN, secrets.token_urlsafe(32) + "\n", 0o600)
    if "guard/config.json" in files:
        (folder / GUARD_NOTES).mkdir(parents=True, exist_ok=True)
    return changed


def put(folder: Path, files: dict[str, str]) -> list[str]:
    """Write files without a token, as for an example that is not run from here; return what changed."""
    changed = []
    for name, text in files.items():
        path = folder / name
        if not path.is_file() or path.read_bytes() != text.encode():
            if path.is_file() and "/" in name:
                _rewrite(path, text)
            else:
                replace_file(path, text, 0o644)
            changed.append(name)
    return changed


def _rewrite(path: Path, text: str) -> None:
    """Write into the file that is there: a container that has it mounted sees this one, not one of its name.

    Its room is taken before a byte changes, so that a full disk leaves it as it was.
    """
    new = text.encode()
    with path.open("r+b") as file:
        size = os.fstat(file.fileno()).st_size
        try:
            os.posix_fallocate(file.fileno(), 0, max(size, len(new), 1))
        except OSError:
            file.truncate(size)
            raise
        file.write(new)
        file.truncate()
        file.flush()
        os.fsync(file.fileno())


def replace_file(path: Path, text: str, mode: int) -> None:
    """Write a file whole or not at all: who reads it meanwhile sees the old one or the new."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            os.fchmod(file.fileno(), mode)
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


services = stack.services
engine_services = stack.engine_services
served_names = engine.served_names
