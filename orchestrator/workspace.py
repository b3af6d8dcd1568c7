"""Where stacks live on disk: which one is meant, its spec, its saved facts, its control token."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import typing
from pathlib import Path
from types import UnionType
from typing import Any

import yaml

from orchestrator.errors import MigrateError, UsageError
from orchestrator.facts import Facts
from orchestrator.spec import Spec, load_spec
from orchestrator.spec_types import STACK_NAME

DEFAULT_NAME = "main"
SPEC_FILE = "migrate.yaml"


def stacks_dir() -> Path:
    """Return the folder of all stacks: $MIGRATE_STACKS, else ./stacks."""
    return Path(os.environ.get("MIGRATE_STACKS") or "stacks")


def near(path: Path) -> Path:
    """Return a path as one would type it here: relative when it lies below this folder."""
    full = path.resolve()
    return full.relative_to(Path.cwd()) if full.is_relative_to(Path.cwd()) else path


def begun() -> list[str]:
    """Return the names of the stacks on which something has run."""
    return sorted(path.parent.parent.name for path in stacks_dir().glob("*/.state/journal.db"))


def stack_name(name: str | None, *, new: bool = False) -> str:
    """Return the stack that is meant: the flag, else $MIGRATE_STACK, else the only one that has begun.

    `new` allows a stack that is not there yet. Raises UsageError when it is not clear.
    """
    chosen = name or os.environ.get("MIGRATE_STACK")
    if chosen:
        if not re.fullmatch(STACK_NAME, chosen):
            hint = "up to 39 lower-case letters, digits and dashes, such as: --stack main"
            raise UsageError(f"{chosen!r} cannot be the name of a stack", hint=hint)
        return chosen
    known = begun()
    if len(known) == 1:
        return known[0]
    if new and not known:
        return DEFAULT_NAME
    if not known:
        raise UsageError(f"there is no stack in {stacks_dir()}", hint="run: migrate plan")
    raise UsageError(f"which stack? there are {', '.join(known)}", hint="name it: --stack NAME")


@dataclasses.dataclass(frozen=True, slots=True)
class Workspace:
    """One stack's folder."""

    dir: Path

    @property
    def spec_path(self) -> Path:
        return self.dir / SPEC_FILE

    @property
    def state_dir(self) -> Path:
        return self.dir / ".state"

    def spec(self) -> Spec:
        """Read and validate migrate.yaml; the name in it must be the folder's."""
        spec = load_spec(self.spec_path)
        if spec.name != self.dir.resolve().name:
            raise UsageError(
                f"{self.spec_path}: name is {spec.name!r}, but its folder is {self.dir.resolve().name!r}",
                hint="make them the same: containers and volumes carry this name",
            )
        return spec

    def keep_deployed(self, spec: Spec) -> None:
        """Keep the spec as it was deployed, so that a later plan can say what an edit changes."""
        self.state_dir.mkdir(parents=True, exist_ok=True)
        temporary = self.state_dir / "deployed.tmp"
        text = yaml.safe_dump(spec.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(self.state_dir / "deployed.yaml")

    def deployed(self) -> Spec | None:
        """Return the spec of the last `up`, None where there was none or it cannot be read any more."""
        try:
            return load_spec(self.state_dir / "deployed.yaml")
        except UsageError:
            return None

    def token(self) -> str:
        """Return the control door's token; raises UsageError before the first plan."""
        try:
            return (self.dir / "secrets" / "control.token").read_text(encoding="utf-8").strip()
        except OSError as error:
            raise UsageError(f"the stack has no control token: {error}", hint="run: migrate plan") from None

    def save_facts(self, facts: Facts) -> None:
        """Keep what was observed, so that later commands render the same files."""
        self.state_dir.mkdir(parents=True, exist_ok=True)
        path = self.state_dir / "facts.json"
        temporary = path.with_suffix(".tmp")
        temporary.write_text(json.dumps(dataclasses.asdict(facts), indent=1, sort_keys=True), encoding="utf-8")
        temporary.replace(path)

    def facts(self) -> Facts | None:
        """Return the facts of the last plan, or None."""
        path = self.state_dir / "facts.json"
        if not path.exists():
            return None
        try:
            return typing.cast("Facts", thaw(Facts, json.loads(path.read_text(encoding="utf-8"))))
        except (OSError, ValueError, TypeError, KeyError) as error:
            hint = "move it away, then run: migrate plan"
            raise MigrateError(f"{path} cannot be read: {error}", hint=hint) from error


def thaw(kind: Any, value: Any) -> Any:
    """Rebuild frozen dataclasses, tuples and dictionaries from JSON by their annotations."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if value is None or kind is Any:
        return value
    if origin in (UnionType, typing.Union):
        return thaw(next(one for one in arguments if one is not type(None)), value)
    if origin is tuple:
        return tuple(thaw(arguments[0], one) for one in value)
    if origin is dict:
        return {key: thaw(arguments[1], one) for key, one in value.items()}
    if dataclasses.is_dataclass(kind):
        if not isinstance(value, dict):
            raise TypeError(f"{value!r} is not an object")
        hints = typing.get_type_hints(kind)
        make: Any = kind
        return make(**{key: thaw(hints[key], one) for key, one in value.items()})
    return value
