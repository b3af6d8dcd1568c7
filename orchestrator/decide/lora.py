"""LoRA adapters in PEFT form: do they fit their base, which rank does vLLM need, how much memory do they take."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from orchestrator.decide.catalog import Catalog, Numbers

RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)      # vLLM 0.32, config/lora.py
_ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")
_FEED_FORWARD = ("gate_proj", "up_proj", "down_proj")
_PACKED = {"qkv_proj": _ATTENTION[:3], "gate_up_proj": _FEED_FORWARD[:2], "W_pack": _ATTENTION[:3]}
_REFUSED = {
    "use_dora": "DoRA", "modules_to_save": "modules_to_save (fully trained layers)", "megatron_config": "Megatron",
    "layer_replication": "layer replication",
}  # fmt: skip


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
    name: str, path: str, config: dict[str, Any], numbers: Numbers, size: int | None = None
) -> Adapter:
    """Read an adapter_config.json; `numbers` are its base's shape, `size` the bytes of its file where known."""
    rank, problems = _rank(config)
    kind = str(config.get("peft_type") or "LORA").upper()
    if kind != "LORA":
        problems.append(f"it is {kind}, and vLLM loads LoRA only")
    problems += [f"it uses {what}, which vLLM does not load" for key, what in _REFUSED.items() if config.get(key)]
    if config.get("bias") not in (None, "none"):
        problems.append(f"it trains biases ({config['bias']}), which vLLM does not load")
    told = config.get("target_modules")
    modules = _modules(told)
    if not modules:
        problems.append("its target_modules name no layer")
    if rank > RANKS[-1]:
        problems.append(f"its rank {rank} is above vLLM's largest, {RANKS[-1]}")
    computed = lora_bytes(rank, modules, numbers)
    base = str(config.get("base_model_name_or_path") or "")
    return Adapter(name, path, base, rank, modules, computed if computed is not None else size, tuple(problems))


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
    n = numbers
    if not (n.layers and n.hidden and n.heads and n.kv_heads and n.head_dim) or not rank:
        return None
    query, keys, wide = n.heads * n.head_dim, n.kv_heads * n.head_dim, n.intermediate
    sides = {
        "q_proj": (n.hidden, query), "k_proj": (n.hidden, keys), "v_proj": (n.hidden, keys),
        "o_proj": (query, n.hidden),
    }  # fmt: skip
    if wide and not n.moe:
        sides |= {"gate_proj": (n.hidden, wide), "up_proj": (n.hidden, wide), "down_proj": (wide, n.hidden)}
    flat = [single for one in modules for single in _PACKED.get(one, (one,))]
    once = {"lm_head", "embed_tokens"}
    if any(one not in sides and one not in once for one in flat) or (once & set(flat) and not n.vocab):
        return None
    layered = sum(sum(sides[one]) for one in flat if one in sides) * n.layers
    single = sum(n.hidden + (n.vocab or 0) for one in flat if one in once)
    return 2 * rank * (layered + single)


def vram(rank: int, numbers: Numbers, max_loras: int = 1) -> int | None:
    """Return what vLLM reserves on the GPU for `max_loras` slots: every layer's, whatever the adapters target."""
    slot = lora_bytes(rank, (*_ATTENTION, *_FEED_FORWARD), numbers)
    return None if slot is None else slot * max_loras


def base_problem(found: Adapter, repo: str, catalog: Catalog) -> str:
    """Say why an adapter does not belong to an engine's repository; empty when it does, or nobody can tell."""
    if not found.base or found.base.lower() == repo.lower() or found.base.startswith(("/", ".")):
        return ""
    mine, theirs = catalog.by_repo(repo), catalog.by_repo(found.base)
    if mine and theirs and mine[0].repo == theirs[0].repo:
        return ""
    if mine and theirs and _shape(mine[0].numbers) == _shape(theirs[0].numbers):
        return ""
    if mine and theirs:
        return f"adapter {found.name} was trained on {found.base}, not on {repo}: other dimensions"
    return f"adapter {found.name} says it was trained on {found.base}; check that {repo} is the same model"


def _shape(numbers: Numbers) -> tuple[int | None, ...]:
    return numbers.layers, numbers.hidden, numbers.heads, numbers.kv_heads, numbers.vocab


def arguments(adapters: tuple[Adapter, ...], max_loras: int = 1) -> tuple[str, ...]:
    """Return vLLM's arguments that serve these adapters beside their base; empty for none."""
    if not adapters:
        return ()
    rank = max(one.max_rank or RANKS[-1] for one in adapters)
    modules = [f"{one.name}={one.path}" for one in adapters]
    return ("--enable-lora", "--max-lora-rank", str(rank), "--max-loras", str(max_loras), "--lora-modules", *modules)
