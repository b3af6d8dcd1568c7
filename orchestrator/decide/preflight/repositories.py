"""Whether the stack's token may read its repositories: there, gated, licence accepted."""

from __future__ import annotations

from orchestrator.decide import hubfact
from orchestrator.decide.mapping import is_local
from orchestrator.decide.preflight.disk import own_image
from orchestrator.decide.preflight.result import Probes, Result
from orchestrator.spec import Spec
from orchestrator.spec_engine import Engine

_SET = "accept the licence on the model's page, then write HF_TOKEN into .env"


def repositories(spec: Spec | None, probes: Probes) -> list[Result]:
    """One line for the token, and one for each repository that is not simply open."""
    found: dict[str, Result] = {}
    for name, engine in (spec.engines if spec else {}).items():
        if spec is not None and not is_local(engine.repo) and engine.repo not in found:
            said = _one(engine, probes, certain=_downloads(name, engine, spec, probes))
            if said:
                found[engine.repo] = said
    return list(found.values())


def _downloads(name: str, engine: Engine, spec: Spec, probes: Probes) -> bool:
    """Whether the repository will be fetched for certain: vLLM's own image, and nothing of it is here yet."""
    offline = (engine.env | engine.vllm.env).get("HF_HUB_OFFLINE", "").lower() in ("1", "true", "yes", "on")
    return own_image(engine.image or spec.images.vllm) and not offline and probes.weights_here.get(name, 0) == 0


def _one(engine: Engine, probes: Probes, *, certain: bool) -> Result | None:
    repo, told = engine.repo, probes.hub.get(engine.repo)
    if told is None or told.state == hubfact.UNCHECKED:
        return _unseen(engine, probes, told.said if told else "not checked", certain=certain)
    if told.state == hubfact.OPEN:
        return Result("ok", "repository", f"{repo}: {told.said}")
    if told.state == hubfact.ACCEPTED:
        return Result("ok", "token", f"{repo}: {told.said}")
    if told.state == hubfact.GATED:
        fix = f"{_SET}, then run this again"
        return Result("fail", "token", f"{repo}: {told.said}", fix, blocks=certain)
    if told.state == hubfact.REFUSED:
        return Result("fail", "token", f"{repo}: {told.said}", "write a valid HF_TOKEN into .env, or take it out there",
                      blocks=certain)  # fmt: skip
    return Result("fail", "repository", f"{repo}: {told.said}", "correct engines.NAME.repo, or set HF_TOKEN for a "
                  "private one", blocks=certain)  # fmt: skip


def _unseen(engine: Engine, probes: Probes, why: str, *, certain: bool) -> Result | None:
    repo = engine.repo
    if not engine.gated:
        return Result("not checked", "repository", f"{repo}: {why}") if repo in probes.hub else None
    if probes.token is None:
        return Result("not checked", "token", f"{repo}: gated, and HF_TOKEN was not looked for")
    if not probes.token:
        return Result("fail", "token", f"{repo}: gated, and HF_TOKEN is not set", _SET, blocks=certain)
    return Result("warn", "token", f"HF_TOKEN is set; whether it may read {repo} is {why}",
                  "accept the licence on the model's page with the token's account")  # fmt: skip
