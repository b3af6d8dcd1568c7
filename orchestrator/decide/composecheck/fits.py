"""Whether one engine alone fits its GPU, and whether the GPU can run it."""

from __future__ import annotations

from orchestrator.decide import vram
from orchestrator.decide.catalog import load
from orchestrator.decide.composecheck.commandline import command, line_of, model_of
from orchestrator.decide.composecheck.gpus import tensor_parallel
from orchestrator.decide.composecheck.project import Card, Project
from orchestrator.decide.composecheck.service import Service
from orchestrator.decide.finding import Finding
from orchestrator.decide.vllm_flags import Line, read

DEFAULT_UTILIZATION = 0.92
OLDEST = 7.5    # compute capability below which vLLM has no kernels


def check(project: Project) -> list[Finding]:
    card, found = project.card, list[Finding]()
    for service in project.of("vllm") if card else ():
        assert card is not None
        line = read(command(service)[0])
        if "cpu" not in f"{service.image}{service.tag}":
            found += _runs(service, line, card) + _weights(service, line, card)
    return found


def _runs(service: Service, line: Line, card: Card) -> list[Finding]:
    """Whether the GPU can run what is asked of it: vLLM at all, this format, this type."""
    has, known = card.capability, load().by_repo(model_of(line))
    if not has:
        return []
    if has < OLDEST:
        return [Finding("error", service.name, f"the GPU's compute capability is {has}; vLLM needs {OLDEST}",
                        "stay on Ollama, or take a newer GPU", line=service.line, code="capability")]  # fmt: skip
    needs = vram.minimum_capability(known[1]) if known else OLDEST
    if known and has < needs:
        near = next((repo for repo, scheme in known[0].quantized if vram.minimum_capability(scheme) <= has), "")
        fix = f"take {near}" if near else "take a repository in another format, such as AWQ"
        return [Finding("error", service.name, f"{known[1]} needs compute capability {needs}; this GPU has {has}", fix,
                        line=line_of(service, model_of(line)), code="capability")]  # fmt: skip
    dtype = line.get("--dtype")
    if has < 8 and dtype and dtype.value == "bfloat16":
        return [Finding("error", service.name, f"bfloat16 needs compute capability 8.0; this GPU has {has}",
                        "--dtype half", line=service.line, code="bfloat16")]  # fmt: skip
    return []


def utilization(line: Line) -> float | None:
    """Return the share of the GPU that vLLM asks for; None where it cannot be read."""
    option = line.get("--gpu-memory-utilization")
    if option is None:
        return DEFAULT_UTILIZATION
    try:
        return float(option.value or "")
    except ValueError:
        return None


def ask_of(line: Line) -> vram.Ask | None:
    """Return what an engine asks of its GPU; None for a model that the catalogue does not know."""
    known = load().by_repo(model_of(line))
    if not known or not known[0].numbers.params_b:
        return None
    length, seqs = line.get("--max-model-len"), line.get("--max-num-seqs")
    scheme = known[1]
    online = line.get("--quantization")
    return vram.Ask(
        model_of(line),
        known[0].numbers,
        "fp8" if online and online.value == "fp8" else scheme,
        max_model_len=number(length.value if length else None) or known[0].numbers.max_context or 8192,
        max_num_seqs=number(seqs.value if seqs else None) or 256,
        tensor_parallel=tensor_parallel(line),
        eager=line.get("--enforce-eager") is not None,
    )


def number(text: str | None) -> int | None:
    """Return vLLM's sizes: 8192, 8k (8000), 8K (8192); None for what is none."""
    if not text:
        return None
    factor = {"k": 1000, "K": 1024, "m": 10**6, "M": 2**20}.get(text[-1:], 1)
    digits = text[:-1] if factor > 1 else text
    return int(digits) * factor if digits.isdigit() else None


def _weights(service: Service, line: Line, card: Card) -> list[Finding]:
    ask, share_of = ask_of(line), utilization(line)
    if not ask or not share_of:
        return []
    budget = int(card.total * share_of)
    needed = ask.weights() + ask.activations(card.total) + ask.graphs()
    one = ask.one_sequence()
    if needed + one <= budget:
        return []
    numbers = (
        f"weights {vram.gib(ask.weights())}, activations and graphs {vram.gib(needed - ask.weights())}, one request "
        f"of {ask.max_model_len} tokens {vram.gib(one)}; {share_of:g} of {vram.gib(card.total)} is {vram.gib(budget)}"
    )
    fix = "take a quantised repository or more GPUs" if needed > budget else "lower --max-model-len"
    # Weights and cache are known to a percent; what the engine needs beside them is not.
    sure = ask.weights() + one + (needed - ask.weights()) // 2 > budget
    what = "does not fit its GPU" if sure else "fits its GPU only just, if at all"
    fix = fix if sure else "lower --max-model-len and --max-num-seqs, or add --enforce-eager"
    return [Finding("error" if sure else "warning", service.name, what, fix, numbers, service.at("command"), "vram")]
