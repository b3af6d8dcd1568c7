"""Whether what shares a GPU fits on it: Ollama beside an engine, several engines."""

from __future__ import annotations

from orchestrator.decide import vram
from orchestrator.decide.catalog import Numbers
from orchestrator.decide.composecheck.commandline import command, open_ended
from orchestrator.decide.composecheck.fits import DEFAULT_UTILIZATION, ask_of, number, utilization
from orchestrator.decide.composecheck.gpus import ranks_of, tensor_parallel
from orchestrator.decide.composecheck.project import Card, Project, apart
from orchestrator.decide.composecheck.service import Service
from orchestrator.decide.finding import Finding
from orchestrator.decide.vllm_flags import Line, read

_RUNNER = vram.GIB * 2 // 5  # CUDA context and smallest buffers of one llama-server
_Q4_BITS = 4.89


def check(project: Project) -> list[Finding]:
    found = []
    engines = [*project.of("vllm"), *project.of("ollama")]
    for service in project.of("vllm"):
        line = read(command(service)[0])
        others = [one for one in engines if one is not service and share(service, one)]
        found += _beside(service, line, [one for one in others if one.kind == "ollama"], project.card)
        if project.services.index(service) == min(map(project.services.index, [service, *others])):
            found += _several(service, line, [one for one in others if one.kind == "vllm"])
    return found


def share(one: Service, other: Service) -> bool:
    """Whether two services may land on the same GPU."""
    if not one.gpus or not other.gpus or apart(one, other):
        return False
    if any(each.kind == "vllm" and "cpu" in f"{each.image}{each.tag}" for each in (one, other)):
        return False    # its CPU build takes nothing of the GPU
    mine, theirs = used(one), used(other)
    return mine is None or theirs is None or bool(mine & theirs)


def used(service: Service) -> set[str] | None:
    """Return the GPUs that a service computes on, by index or UUID; None where any may be meant.

    Docker gives the first GPUs where a number is asked for, and vLLM takes as many of what it sees as it has ranks.
    """
    asked = service.gpus[0]
    given = list(asked.ids) if asked.ids is not None else [str(one) for one in range(asked.count or 0)]
    said = service.env.get("CUDA_VISIBLE_DEVICES")
    seen = [one.strip() for one in said.text.split(",")] if said else []
    if seen and all(one.isdigit() for one in seen):
        given = [given[int(one)] for one in seen if int(one) < len(given)] if given else seen
    if service.kind != "vllm":
        return set(given) or None
    ranks = ranks_of(read(command(service)[0]))
    return set(given[:ranks] if given else [str(one) for one in range(ranks)])


def _beside(service: Service, line: Line, ollamas: list[Service], card: Card | None) -> list[Finding]:
    """Whether what vLLM asks of the whole GPU at its start is free while Ollama holds some of it."""
    if not ollamas:
        return []
    found, share_of = [], utilization(line)
    option = line.get("--gpu-memory-utilization")
    at = next(
        (word.line for word in service.argv if "gpu-memory-util" in word.text.replace("_", "-")), service.at("command")
    )
    if option is None and not service.partial and not open_ended(service):
        found.append(
            Finding(
                "error",
                service.name,
                f"without --gpu-memory-utilization it asks for {DEFAULT_UTILIZATION} "
                f"of the GPU that `{ollamas[0].name}` uses too",
                "set it to what Ollama leaves",
                line=at,
                code="utilization-default",
            )
        )
    if card and share_of:
        found += _room(service, line, share_of, ollamas[0], card, at)
    elif share_of and option is not None and share_of > 0.8:
        found.append(
            Finding(
                "warning",
                service.name,
                f"{share_of:g} of a GPU that `{ollamas[0].name}` uses too leaves "
                "little to either; whether it fits is not checked without the GPU's size",
                "say it, such as --gpu 24GiB",
                line=at,
                code="vram-unknown",
            )
        )
    waits = service.get("depends_on", ollamas[0].name, "condition")
    if waits == "service_healthy":
        found.append(
            Finding(
                "warning",
                service.name,
                f"waiting for `{ollamas[0].name}` to be healthy does not order their VRAM: Ollama "
                "holds none until its first request loads a model",
                "load the model first (POST /api/generate with keep_alive -1), then start vLLM",
                line=service.at("depends_on", ollamas[0].name),
                code="depends-vram",
            )
        )
    return found


def _room(service: Service, line: Line, share_of: float, ollama: Service, card: Card, at: int) -> list[Finding]:
    ask = ask_of(line)
    numbers = ask.numbers if ask else Numbers(params_b=8.0, kv_token=131072, vocab=128256)
    least, most = _ollama_holds(numbers, ollama, card)
    asked = card.total * share_of + vram.context_of(tensor_parallel(line))
    left = card.total - asked
    if left >= most:
        return []
    whose = f"the same model at 4 bit in `{ollama.name}`"
    proof = (
        f"{share_of:g} x {vram.gib(card.total)} + CUDA context = {vram.gib(asked)}; {whose} holds "
        f"{vram.gib(least)} to {vram.gib(most)}; {vram.gib(left)} would be left"
    )
    best = (card.total - most - vram.context_of(tensor_parallel(line)) - vram.SPARE) / card.total
    need = (ask.weights() + ask.activations(card.total) + ask.graphs() + ask.one_sequence()) / card.total if ask else 0
    if best > need and best > 0.05:
        fix = f"at most {best:.2f} here"
    else:
        fix = "both do not fit: take a quantised repository for vLLM, a second GPU, or unload Ollama's model first"
    if left < least:
        return [
            Finding(
                "error",
                service.name,
                "vLLM refuses to start beside a loaded Ollama (`Free memory on device … "
                "is less than desired`); started first, it drives Ollama to the CPU",
                fix,
                proof,
                at,
                "vram-beside",
            )
        ]
    return [
        Finding(
            "warning",
            service.name,
            "vLLM starts beside Ollama only while Ollama holds little",
            fix,
            proof,
            at,
            "vram-beside",
        )
    ]


def _ollama_holds(numbers: Numbers, ollama: Service, card: Card) -> tuple[int, int]:
    """Return the least and the most that Ollama takes for a 4-bit copy of a model of this shape, in bytes."""
    weights = int((numbers.params_b or 8) * 1e9 * _Q4_BITS / 8)
    said, parallel = ollama.env.get("OLLAMA_CONTEXT_LENGTH"), ollama.env.get("OLLAMA_NUM_PARALLEL")
    tiers = 4096 if card.total < 23 * vram.GIB else 32768 if card.total < 47 * vram.GIB else 262144
    new = ollama.release is None or ollama.release >= (0, 15, 5)
    context = number(said.text if said else None) or (min(tiers, numbers.max_context or tiers) if new else 2048)
    many = number(parallel.text if parallel else None)
    old = ollama.release is not None and ollama.release < (0, 10)
    cache = (numbers.kv_token or 131072) * context
    low = weights + cache * (many or 1) + _RUNNER
    high = weights + cache * (many or (4 if old else 1)) + 2 * 512 * vram.MIB + 512 * (numbers.vocab or 128_000) * 4
    return low, max(low, high)


def _several(service: Service, line: Line, others: list[Service]) -> list[Finding]:
    if not others:
        return []
    shares = [(utilization(one) or 0.0) for one in [line, *(read(command(other)[0]) for other in others)]]
    if sum(shares) <= 0.95:
        return []
    names = ", ".join(f"`{one.name}`" for one in others)
    return [
        Finding(
            "error",
            service.name,
            f"asks for {sum(shares):.2f} of one GPU together with {names}",
            "give each its own device_ids, or shares that add up to at most 0.95",
            line=service.line,
            code="shares",
        )
    ]
