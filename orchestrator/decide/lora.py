"""LoRA adapters in PEFT form: do they fit their base, which rank does vLLM need, how much memory do they take."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from orchestrator.decide.catalog import Catalog, Numbers

RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)      # vLLM 0.32, config/lora.py
_ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")
_FEED_FORWARD = ("gate_proj", "up_proj", "down_proj")
_PACKED = {"qkv_proj": _ATTENTION[:3], "gate_up_proj": _FEED_FORWARD[:2], "W_pack": _ATTENTION[:3]}
_REFUSED = {
    "use_dora": "DoRA", "megatron_config": "Megatron", "layer_replication": "layer replication",
    "lora_bias": "a bias of its own (lora_bias)", "alora_invocation_tokens": "Activated LoRA",
    "use_bdlora": "block-diagonal LoRA", "use_qalora": "QALoRA",
    "trainable_token_indices": "trained token vectors (trainable_token_indices)",
}  # fmt: skip
# Such an initialisation changes the base's own weights when PEFT loads the adapter (vLLM 0.32, lora/peft_helper.py).
_PLAIN_INITS = ("gaussian", "eva", "orthogonal", "mica", "lora_ga")
MOST_SLOTS = 8          # adapters of one batch, where nobody says --max-loras


@dataclass(frozen=True, slots=True)
class Adapter:
    """One adapter_config.json. `problems` are why vLLM would refuse it; `bytes` at 16 bit, None if unknown."""

    name: str
    path: str                       # directory or repository
    base: str
    rank: int
    modules: tuple[str, ...]
    bytes: int | None
    problems: tuple[str, ...] = ()

    @property
    def max_rank(self) -> int | None:
        """The --max-lora-rank that holds this adapter."""
        return next((rank for rank in RANKS if rank >= self.rank), None)


def adapter(
    name: str,
    path: str,
    config: dict[str, Any],
    numbers: Numbers,
    size: int | None = None,
    tensors: Mapping[str, tuple[int, ...]] | None = None,
) -> Adapter:
    """Read an adapter_config.json; `numbers` are its base's shape, `size` the bytes of its file where known.

    `tensors`: (rank, in, out) of each module as its file has them, which says more than the configuration.
    """
    rank, problems = _rank(config)
    tensors = {module: sizes for module, sizes in (tensors or {}).items() if len(sizes) == 3}
    rank = max([rank, *(sizes[0] for sizes in tensors.values())])
    problems += _sizes(tensors, numbers)
    problems += _features(config)
    told = config.get("target_modules")
    modules = _modules(told)
    if not modules:
        problems.append("its target_modules name no layer")
    if rank > RANKS[-1]:
        problems.append(f"its rank {rank} is above vLLM's largest, {RANKS[-1]}")
    computed = lora_bytes(rank, modules, numbers)
    base = " ".join(str(config.get("base_model_name_or_path") or "").split())[:120]
    return Adapter(name, path, base, rank, modules, computed if computed is not None else size, tuple(problems))


def _features(config: dict[str, Any]) -> list[str]:
    problems = []
    kind = str(config.get("peft_type") or "LORA").upper()
    if kind != "LORA":
        problems.append(f"it is {kind}, and vLLM loads LoRA only")
    problems += [f"it uses {what}, which vLLM does not load" for key, what in _REFUSED.items() if config.get(key)]
    whole = config.get("modules_to_save")
    if whole:
        named = ", ".join(map(str, whole)) if isinstance(whole, list | tuple) else str(whole)
        problems.append(f"it uses modules_to_save (fully trained layers: {named}), which vLLM does not load")
    start = config.get("init_lora_weights")
    if isinstance(start, str) and start.lower() not in _PLAIN_INITS:
        problems.append(
            f"it was made with init_lora_weights={start!r}, which changes the base's own weights; convert it to a "
            "plain LoRA with PEFT (path_initial_model_for_weight_conversion)"
        )
    if config.get("bias") not in (None, "none"):
        problems.append(f"it trains biases ({config['bias']}), which vLLM does not load")
    return problems


def _sizes(tensors: Mapping[str, tuple[int, ...]], numbers: Numbers) -> list[str]:
    sides, wrong = _sides(numbers), []
    for module, (_, inner, outer) in tensors.items():
        base = sides.get(module)
        if base and any(mine and mine != theirs for mine, theirs in zip((inner, outer), base, strict=True)):
            wrong.append(f"{module} {inner} x {outer} instead of {base[0]} x {base[1]}")
    return [f"its matrices are another model's: {', '.join(wrong)}"] if wrong else []


def _rank(config: dict[str, Any]) -> tuple[int, list[str]]:
    pattern = config.get("rank_pattern")
    ranks = [config.get("r"), *(pattern.values() if isinstance(pattern, dict) else ())]
    known = [one for one in ranks if isinstance(one, int) and not isinstance(one, bool) and one > 0]
    return (max(known), []) if known else (0, ["its adapter_config.json states no rank (r)"])


def _modules(told: Any) -> tuple[str, ...]:
    if isinstance(told, str):
        if told.lower() == "all-linear":
            return (*_ATTENTION, *_FEED_FORWARD)
        # A regular expression over layer names: those that it names.
        known = (*_ATTENTION, *_FEED_FORWARD, *_PACKED, "lm_head", "embed_tokens")
        return tuple(one for one in known if one in told)
    return tuple(dict.fromkeys(str(one).rsplit(".", 1)[-1] for one in told if one)) if isinstance(told, list) else ()


def lora_bytes(rank: int, modules: tuple[str, ...], numbers: Numbers) -> int | None:
    """Return the bytes of one adapter at 16 bit: rank x (in + out) per layer of each module.

    None when the shape is not known or a module is none of a dense decoder's.
    """
    sides = _sides(numbers)
    if not (sides and rank):
        return None
    flat = [single for one in modules for single in _PACKED.get(one, (one,))]
    once = {"lm_head", "embed_tokens"}
    if any(one not in sides and one not in once for one in flat) or (once & set(flat) and not numbers.vocab):
        return None
    layered = sum(sum(sides[one]) for one in flat if one in sides) * (numbers.layers or 0)
    single = sum((numbers.hidden or 0) + (numbers.vocab or 0) for one in flat if one in once)
    return 2 * rank * (layered + single)


def _sides(n: Numbers) -> dict[str, tuple[int, int]]:
    """Return (in, out) of each linear layer of a decoder, experts apart; empty where the shape is not known."""
    if not (n.layers and n.hidden and n.heads and n.kv_heads and n.head_dim) or n.mla or n.hybrid:
        return {}
    query, keys, wide = n.heads * n.head_dim, n.kv_heads * n.head_dim, n.intermediate
    sides = {
        "q_proj": (n.hidden, query), "k_proj": (n.hidden, keys), "v_proj": (n.hidden, keys),
        "o_proj": (query, n.hidden),
    }  # fmt: skip
    if wide and not n.moe:
        sides |= {"gate_proj": (n.hidden, wide), "up_proj": (n.hidden, wide), "down_proj": (wide, n.hidden)}
    return sides


def vram(rank: int, numbers: Numbers, max_loras: int = 1, tensor_parallel: int = 1) -> int | None:
    """Return what vLLM reserves on each GPU for `max_loras` slots: every layer's, whatever the adapters target.

    Column-parallel layers split B, row-parallel ones A (vLLM 0.32, lora/layers/base_linear.py); the head, the
    embedding (lm_head, embed_tokens) and each of a mixture's experts have slots too. None where the shape is unknown.
    """
    sides, n = _sides(numbers), numbers
    wide = _expert(n) if n.moe else n.intermediate
    if not sides or not n.vocab or not wide:
        return None
    across = max(1, tensor_parallel)
    rows = {"o_proj", "down_proj"}
    layer = sum(
        -(-inner // across) + outer if one in rows else inner + -(-outer // across)
        for one, (inner, outer) in sides.items()
    )
    if n.moe:
        # Experts are split by their inner size: A of gate and up whole, B split; A of down split, B whole. The router
        # has a slot of its own.
        experts, hidden = n.experts or 0, n.hidden or 0
        layer += experts * 3 * (hidden + -(-wide // across)) + hidden + experts
    once = 2 * ((n.hidden or 0) + n.vocab)
    return 2 * rank * max_loras * (layer * (n.layers or 0) + once)


def _expert(n: Numbers) -> int | None:
    """Return the inner size of one expert, the bad end: `intermediate` may be that of the dense layers beside them."""
    if not (n.layers and n.hidden and n.experts and n.params_b):
        return n.intermediate
    most = math.ceil(n.params_b * 1e9 / (3 * n.layers * n.hidden * n.experts))
    return min(n.intermediate, most) if n.intermediate else most


def base_problem(found: Adapter, repo: str, catalog: Catalog) -> str:
    """Say why an adapter cannot belong to an engine's repository; empty when it can, or nobody can tell."""
    mine, theirs = catalog.by_repo(repo), catalog.by_repo(found.base)
    if not (mine and theirs) or mine[0].repo == theirs[0].repo:
        return ""
    wrong = [
        f"{what} {now} instead of {then}"
        for what, now, then in zip(_SHAPE, _shape(mine[0].numbers), _shape(theirs[0].numbers), strict=True)
        if now and then and now != then
    ]
    return f"it was trained on {found.base}, not on {repo}, which has {', '.join(wrong)}" if wrong else ""


def base_doubt(found: Adapter, repo: str, catalog: Catalog) -> str:
    """Say what has to be checked by hand; empty when the base is the engine's model, or is not named."""
    if not found.base or found.base.lower() == repo.lower() or found.base.startswith(("/", ".", "~")):
        return ""
    mine, theirs = catalog.by_repo(repo), catalog.by_repo(found.base)
    if mine and theirs and mine[0].repo == theirs[0].repo:
        return ""
    return f"it says it was trained on {found.base}; check that {repo} is the same model"


_SHAPE = ("layers", "hidden size", "heads", "KV heads", "vocabulary")


def _shape(numbers: Numbers) -> tuple[int | None, ...]:
    return numbers.layers, numbers.hidden, numbers.heads, numbers.kv_heads, numbers.vocab


def arguments(adapters: tuple[Adapter, ...], max_loras: int = 1) -> tuple[str, ...]:
    """Return vLLM's arguments that serve these adapters beside their base; empty for none."""
    if not adapters:
        return ()
    rank = max(one.max_rank or RANKS[-1] for one in adapters)
    modules = [f"{one.name}={one.path}" for one in adapters]
    # vLLM keeps as many on the host as it has slots: without this the others would be read from disk again and again.
    kept = ("--max-cpu-loras", str(len(adapters))) if len(adapters) > max_loras else ()
    slots = ("--enable-lora", "--max-lora-rank", str(rank), "--max-loras", str(max_loras), *kept)
    return (*slots, "--lora-modules", *modules)
