"""What today's Ollama is set to, as far as the stack has to keep it."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from orchestrator.decide.readings import number, whole
from orchestrator.decide.vram import GIB
from orchestrator.facts import Facts

_SEQUENCES = 16
_MOST = 256         # sequences of one engine, at most
_UNSTATED = 32768   # the longest context that is planned for without a sign that it is needed


def _number(facts: Facts, key: str) -> int | None:
    return whole(facts.ollama.container.env.get(key)) if facts.ollama.container else None


def parallel(facts: Facts) -> int:
    """Return how many requests Ollama answers at once; its own default is 1 since 0.10."""
    return _number(facts, "OLLAMA_NUM_PARALLEL") or 1


def context(facts: Facts) -> tuple[int, str]:
    """Return the context that clients have today, in tokens, and where that is known from.

    The largest that anything shows is kept: what Ollama holds today must not overflow in vLLM.
    """
    seen: list[tuple[int, str]] = []
    stated = _number(facts, "OLLAMA_CONTEXT_LENGTH")
    if stated:
        seen.append((max(256, stated), "today's OLLAMA_CONTEXT_LENGTH"))
    if facts.traffic.largest_context:
        seen.append((max(256, facts.traffic.largest_context), "the largest in the log of requests"))
    for model in facts.ollama.models:
        asked = model.parameters.get("num_ctx")
        if isinstance(asked, int | float) and not isinstance(asked, bool) and asked >= 256:
            seen.append((int(asked), f"num_ctx in the Modelfile of {model.name}"))
    if not stated:
        now = [one.context_length for one in facts.ollama.loaded if one.context_length]
        seen += [(size, "that of the models loaded now") for size in now]
    if seen:
        size, where = max(seen, key=lambda one: one[0])
        return size, f"context {size}: {where}"
    total = sum(gpu.total for gpu in facts.gpus)
    default = 262144 if total >= 47 * GIB else 32768 if total >= 23 * GIB else 4096
    size = min(default, _UNSTATED)
    told = f"context {size}: Ollama's default for {total / GIB:.0f} GiB of VRAM"
    if size < default:
        told += f" is {default}, but nothing shows that more is used"
    return size, told


def sequences(facts: Facts) -> tuple[int, str]:
    """Return max_num_seqs, and why: twice the measured or stated peak in steps of 8, else 16."""
    peak = number(facts.traffic.concurrency.peak)
    if not peak or peak < 0:
        return _SEQUENCES, f"max_num_seqs {_SEQUENCES}: no evidence of concurrency; enough for 5-10 users (cited, S3)"
    wanted = max(8, -(-int(2 * min(peak, _MOST)) // 8) * 8)
    word = "stated" if facts.traffic.source == "stated" else "measured"
    if wanted > _MOST:
        told = f"the most that is proposed; the {word} peak of {peak:g} at once asks for twice itself"
        return _MOST, f"max_num_seqs {_MOST}: {told}"
    return wanted, f"max_num_seqs {wanted}: twice the {word} peak of {peak:.0f} at once, in steps of 8"


def around(facts: Facts, ollama: dict[str, Any], notes: list[str]) -> dict[str, Any]:
    """Return today's Ollama and its address; what looks like a secret is left behind and named."""
    url = urlsplit(facts.ollama.url)
    found: dict[str, Any] = {"url": facts.ollama.url}
    gateway: dict[str, Any] = {"port": url.port or 11434}
    if (one := facts.ollama.container) is not None:
        if one.withheld:
            names = ", ".join(one.withheld)
            notes.append(f"not carried over, as it may be secret: {names}; set it in compose.override.yaml")
        found |= {"container": one.name, "image": one.image, "volumes": one.volumes, "networks": one.networks}
        gateway = {"listen": one.listen or "0.0.0.0", "port": one.port or 11434}
        ollama = ollama | {"env": one.env | ollama.get("env", {})}
    else:
        notes.append("Ollama does not run in Docker here: add its folder of models to ollama/volumes, such as "
                     "/usr/share/ollama/.ollama:/root/.ollama")  # fmt: skip
    return {"ollama": found | ollama, "gateway": gateway}
