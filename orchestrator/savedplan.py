"""A plan kept as a file: what was decided and on which world, so that `up --plan` runs that plan or refuses."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from orchestrator import __version__
from orchestrator.decide.finding import is_reference, secret_name, secret_value
from orchestrator.errors import MigrateError, UsageError
from orchestrator.facts import Facts
from orchestrator.names import canonical
from orchestrator.plan import Plan, images
from orchestrator.spec import Spec, parse_spec

GIB = 2**30
MARGIN = GIB        # free VRAM moves by hundreds of MiB without anything new running
Bytes = Annotated[int, Field(ge=0)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class SavedGpu(_Part):
    """One GPU when the plan was made; sizes in bytes."""

    index: str
    uuid: str
    name: str = ""
    total: Bytes
    free: Bytes
    compute_capability: float


class SavedStep(_Part):
    """One step of `migrate up` as it was printed."""

    kind: str
    target: str
    cause: str = ""
    touches_live: bool = False
    note: str = ""
    data: dict[str, Any] = Field(default_factory=dict)


class SavedPlan(_Part):
    """The file of `migrate plan --out`; its JSON schema is data/plan.schema.json."""

    schema_version: Literal[1] = 1
    made_at: str = Field(description="ISO 8601")
    tool: str = Field(description="version of migrate that made it")
    spec: str = Field(description="the stack file without comments, YAML")
    spec_sha256: str = Field(description="digest of `spec`: an edited plan is refused")
    ollama: str = Field(description="Ollama's version")
    ollama_vram: Bytes = Field(description="bytes that Ollama's loaded models held")
    models: dict[str, str] = Field(description="name -> digest of every installed model")
    adapters: dict[str, str] = Field(default_factory=dict, description="ENGINE/NAME -> digest of a LoRA adapter")
    gpus: tuple[SavedGpu, ...] = ()
    images: tuple[str, ...] = ()
    verdict: str = ""
    steps: tuple[SavedStep, ...] = ()


def made(spec: Spec, facts: Facts, steps: Plan, verdict: str, at: str) -> SavedPlan:
    """Freeze a plan; `at` is ISO 8601. Raises UsageError where the spec holds a secret."""
    data = spec.model_dump(mode="json", exclude_unset=True)
    held = sorted(_secrets(data, ""))
    if held:
        raise UsageError(
            "a saved plan may not hold secrets", evidence="\n".join(held),
            hint="move them into the stack's .env and refer to them as ${NAME}",
        )
    text = yaml.safe_dump(data, sort_keys=False, allow_unicode=True)
    return SavedPlan(
        made_at=at, tool=__version__, spec=text, spec_sha256=_sha(text), ollama=facts.ollama.version,
        ollama_vram=_held(facts), models=_models(facts), adapters=_adapters(facts), images=tuple(images(spec)),
        verdict=verdict,
        gpus=tuple(
            SavedGpu(index=gpu.index, uuid=gpu.uuid, name=gpu.name, total=gpu.total, free=gpu.free,
                     compute_capability=gpu.compute_capability)
            for gpu in facts.gpus
        ),
        steps=tuple(SavedStep.model_validate(step) for step in steps.as_dict()["steps"]),
    )  # fmt: skip


def save(path: Path, saved: SavedPlan) -> None:
    """Write the file whole or not at all; raises MigrateError."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_text(saved.model_dump_json(indent=1) + "\n", encoding="utf-8")
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        hint = "name a file in a folder that you may write"
        raise MigrateError(f"cannot write {path}: {error.strerror or error}", hint=hint) from error


def load(path: Path) -> SavedPlan:
    """Read and check a saved plan; raises UsageError with every problem at once."""
    hint = "make it again: migrate plan --out FILE"
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror or error}", hint=hint) from None
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path} is not JSON: {error}", hint=hint) from None
    try:
        saved = SavedPlan.model_validate(data)
    except ValidationError as error:
        problems = ["/".join(map(str, one["loc"])) + f": {one['msg']}" for one in error.errors()]
        raise UsageError(f"{path} is not a saved plan", evidence="\n".join(problems), hint=hint) from None
    if _sha(saved.spec) != saved.spec_sha256:
        raise UsageError(f"{path} was edited: its spec does not match its digest", hint=hint)
    parse_spec(saved.spec, str(path))
    return saved


def moved(
    saved: SavedPlan, facts: Facts, spec: Spec, margin: int = MARGIN, *, count_free: bool = True
) -> list[str]:
    """Return what is no longer as the plan saw it; empty: the plan holds.

    `margin` in bytes of free VRAM. `count_free` False once the stack's own engines hold memory.
    """
    return [*_tool(saved, facts), *_spec(saved, spec), *_models_moved(saved, facts),
            *_adapters_moved(saved, facts), *_gpus_moved(saved, facts, margin if count_free else None)]  # fmt: skip


def _tool(saved: SavedPlan, facts: Facts) -> Iterator[str]:
    if saved.tool != __version__:
        yield f"migrate is {__version__}; the plan was made by {saved.tool}"
    if saved.ollama != facts.ollama.version:
        yield f"Ollama is {facts.ollama.version or 'of an unknown version'}; it was {saved.ollama or 'unknown'}"


def _spec(saved: SavedPlan, spec: Spec) -> Iterator[str]:
    before = _flat(parse_spec(saved.spec).model_dump(mode="json"))
    now = _flat(spec.model_dump(mode="json"))
    for key in [*before, *(key for key in now if key not in before)]:
        if before.get(key) != now.get(key):
            yield f"migrate.yaml: {key} was {_said(before, key)} and is {_said(now, key)}"


def _models_moved(saved: SavedPlan, facts: Facts) -> Iterator[str]:
    before = {canonical(name): digest for name, digest in saved.models.items()}
    now = {canonical(name): digest for name, digest in _models(facts).items()}
    for name in sorted(before.keys() | now.keys()):
        if name not in now:
            yield f"model {name} is gone"
        elif name not in before:
            yield f"model {name} is new"
        elif before[name] != now[name]:
            yield f"model {name} was pulled or made again: {before[name][:19]} is now {now[name][:19]}"


def _adapters_moved(saved: SavedPlan, facts: Facts) -> Iterator[str]:
    now = _adapters(facts)
    gone = {f"{one.engine}/{one.name}": one.problem for one in facts.adapters if one.problem}
    for name, digest in saved.adapters.items():
        if name in gone:
            yield f"adapter {name}: {gone[name]}"
        elif name in now and now[name] != digest:       # one that nobody can look at now is no move
            yield f"adapter {name} was made again: another configuration, or other weights"


def _gpus_moved(saved: SavedPlan, facts: Facts, margin: int | None) -> Iterator[str]:
    now = {gpu.uuid: gpu for gpu in facts.gpus}
    known = {gpu.uuid for gpu in saved.gpus}
    # What Ollama loaded since is in the plan's sums: only what somebody else took counts.
    grown = max(0, _held(facts) - saved.ollama_vram)
    for old in saved.gpus:
        new = now.get(old.uuid)
        if new is None:
            yield f"GPU {old.index} ({old.uuid}) is gone"
            continue
        if new.index != old.index:
            yield f"GPU {old.uuid} was {old.index} and is {new.index}"
        if (new.total, new.compute_capability) != (old.total, old.compute_capability):
            yield f"GPU {old.index} has other hardware: {new.total / GIB:.1f} GiB, cc {new.compute_capability}"
        if margin is not None and old.free - new.free - grown > margin:
            yield f"GPU {old.index} has {new.free / GIB:.1f} GiB free; it had {old.free / GIB:.1f}"
    yield from (f"GPU {gpu.index} ({gpu.uuid}) is new" for gpu in facts.gpus if gpu.uuid not in known)


def _models(facts: Facts) -> dict[str, str]:
    return {model.name: model.digest for model in facts.ollama.models}


def _adapters(facts: Facts) -> dict[str, str]:
    return {
        f"{one.engine}/{one.name}": _sha(json.dumps([one.config, one.size, one.tensors], sort_keys=True, default=str))
        for one in facts.adapters if one.config and not one.problem
    }  # fmt: skip


def _held(facts: Facts) -> int:
    return sum(max(0, one.size_vram) for one in facts.ollama.loaded)


def _sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _flat(value: Any, path: str = "") -> dict[str, Any]:
    if not (isinstance(value, dict) and value):
        return {path: value}
    found: dict[str, Any] = {}
    for key, one in value.items():
        found |= _flat(one, f"{path}/{key}" if path else str(key))
    return found


def _said(flat: dict[str, Any], key: str) -> str:
    secret = secret_name(key.rsplit("/", 1)[-1]) or secret_value(str(flat.get(key)))
    return "(hidden)" if secret else repr(flat[key]) if key in flat else "absent"


def _secrets(value: Any, path: str) -> Iterator[str]:
    if isinstance(value, dict):
        for key, one in value.items():
            yield from _secrets(one, f"{path}/{key}".lstrip("/"))
    elif isinstance(value, list):
        for number, one in enumerate(value):
            yield from _secrets(one, f"{path}/{number}")
    elif isinstance(value, str) and value and not is_reference(value):
        # Names count only where names are free: gateway and engine keys are ours.
        named = "/env/" in f"/{path}" and secret_name(path.rsplit("/", 1)[-1])
        if named or secret_value(value):
            yield path
