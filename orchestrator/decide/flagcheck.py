"""What is wrong with the flags and variables that a spec gives vLLM, each with its path in the file."""

from __future__ import annotations

from orchestrator.decide import speculative
from orchestrator.decide.effective import effective
from orchestrator.decide.vllm_args import check
from orchestrator.decide.vllm_named import named, read_speculative
from orchestrator.errors import UsageError
from orchestrator.spec import Spec
from orchestrator.spec_engine import Engine


def problems(spec: Spec) -> list[str]:
    """Return every refusal as `engines/NAME/vllm: what. Fix: …`; warnings are not among them."""
    return [
        f"engines/{name}/vllm: {found.where}: {found.what}. Fix: {found.fix}"
        for name, engine in spec.engines.items()
        for found in check(_said(engine), env={**engine.env, **engine.vllm.env}, rendered=_rendered(engine))
        if found.severity == "error"
    ] + [
        f"engines/{name}/vllm: {text}"
        for name, engine in spec.engines.items()
        if engine.vllm.speculative is not None or read_speculative([*engine.extra_args, *engine.vllm.args])
        for text in speculative.problems(effective(engine).vllm.speculative or {})
    ]


def require(spec: Spec, where: str) -> None:
    """Raise UsageError with everything that vLLM would refuse or that must not be there."""
    found = problems(spec)
    if found:
        count = f"{len(found)} problem{'s' if len(found) != 1 else ''} with vLLM's flags"
        raise UsageError(f"{where}: {count}", evidence="\n".join(found), hint=f"edit {where}")


def _said(engine: Engine) -> list[str]:
    flags = named(engine.vllm.speculative, chunked_prefill=engine.vllm.chunked_prefill)
    return [*flags, *engine.extra_args, *engine.vllm.args]


def _rendered(engine: Engine) -> dict[str, str]:
    return {"--tensor-parallel-size": str(engine.tensor_parallel), "--max-model-len": str(engine.max_model_len)}
