"""`up --skip GROUP --reason TEXT`: what of a check is left out, and on whose word."""

from __future__ import annotations

from orchestrator.errors import UsageError
from orchestrator.steps import Skip
from orchestrator.steps.registry import groups


def chosen_skips(skip: tuple[str, ...], reason: str | None) -> tuple[Skip, ...]:
    """Return what is left out. Raises UsageError for an unknown group, or where one of the two is missing."""
    known, why = groups(), " ".join((reason or "").split())
    names = tuple(dict.fromkeys(name.strip() for name in skip))
    unknown = [name for name in names if name not in known]
    if unknown:
        shown = ", ".join(known) or "none can be left out"
        raise UsageError(f"--skip: no check has the group {', '.join(map(repr, unknown))}", hint=f"groups: {shown}")
    if names and not why:
        raise UsageError("--skip needs --reason: it stands in the report", hint=f'--skip {names[0]} --reason "why"')
    if reason is not None and not names:
        raise UsageError("--reason belongs to --skip", hint=f"name what is left out: --skip {'|'.join(known)}")
    return tuple(Skip(name, why) for name in names)
