"""What the Hub, a cache or a directory said of one repository; and what follows from its config.json."""

from __future__ import annotations

import re
from typing import Any

from orchestrator.decide.catalog import Catalog, Numbers, model_classes
from orchestrator.decide.shapes import head_size, tied_by_default
from orchestrator.facts import HubFact

__all__ = ["HubFact", "config_numbers", "obstacles", "strangers", "trimmed", "usable"]

_UNLOADABLE = {"gguf", "bitsandbytes", "exl2", "exl3", "hqq", "aqlm", "quanto", "eetq", "vptq", "spqr", "higgs", "mlx"}
_UNREAD = {"auto_map", "id2label", "label2id", "ignore", "ignored_layers", "modules_to_not_convert", "_name_or_path",
           "rope_scaling", "task_specific_params", "exclude_modules"}  # fmt: skip
_LONG = 1024
# vLLM makes classifiers and pooling models of the generating class.
_SUFFIX = re.compile(
    r"(?:ForSequenceClassification|ForTokenClassification|ForRewardModel|RewardModel|EmbeddingModel|Model)$"
)
OPEN, ACCEPTED, GATED, MISSING = "open", "gated, licence accepted", "gated", "not found or private"
UNCHECKED, REFUSED, LOCAL = "not checked", "token refused", "local directory"


def usable(fact: HubFact) -> bool:
    """Whether nothing that was seen stands in the way of a download; what was not checked may be."""
    return fact.state not in (GATED, MISSING, REFUSED)


def config_numbers(config: dict[str, Any]) -> Numbers:
    """Return the shape that a config.json states; of a multimodal model, that of its language part."""
    nested = [config.get(key) for key in ("text_config", "llm_config", "language_config", "thinker_config")]
    text: dict[str, Any] = next((one for one in nested if isinstance(one, dict) and one), config)
    if isinstance(text.get("text_config"), dict):
        text = text["text_config"]

    def number(*keys: str) -> int | None:
        for key in keys:
            value = text.get(key, config.get(key))
            if isinstance(value, int) and not isinstance(value, bool) and value > 0:
                return value
        return None

    heads, hidden = number("num_attention_heads", "n_head"), number("hidden_size", "n_embd", "d_model", "dim")
    latent = number("kv_lora_rank")
    layers = number("num_hidden_layers", "n_layer", "n_layers", "num_layers")
    kv_heads = number("num_key_value_heads", "num_kv_heads", "n_head_kv", "multi_query_group_num")
    if kv_heads is None and text.get("multi_query") is True and not text.get("new_decoder_architecture"):
        kv_heads = 1
    # The text part of a multimodal model leaves out what is its family's default, so that absence says nothing.
    kv_heads = kv_heads or (heads if text is config else None)
    head_dim = head_size(text, str(text.get("model_type") or ""), hidden or 0, heads or 0) or None
    kinds = _list(text.get("layer_types")) or _list(text.get("layers_block_type"))
    caching = sum("attention" in str(kind) and "linear" not in str(kind) for kind in kinds) if kinds else layers
    kv = 4 * caching * kv_heads * head_dim if caching and kv_heads and head_dim else None
    if latent and layers:
        kv = 2 * layers * (latent + (number("qk_rope_head_dim") or 64))
    return Numbers(
        layers=layers, heads=heads, kv_heads=kv_heads, head_dim=head_dim, hidden=hidden,
        intermediate=number("intermediate_size", "n_inner", "ffn_dim"), vocab=number("vocab_size"), kv_token=kv,
        max_context=number("max_position_embeddings", "n_positions", "seq_length", "max_seq_len"),
        mla=latent is not None, vision=isinstance(config.get("vision_config"), dict),
        experts=number("num_local_experts", "num_experts", "n_routed_experts"),
        hybrid=bool(kinds and layers and caching and caching < layers), tied=_tied(text, config),
    )  # fmt: skip


def _tied(text: dict[str, Any], config: dict[str, Any]) -> bool | None:
    told = config.get("tie_word_embeddings", text.get("tie_word_embeddings"))
    kind = str(text.get("model_type") or "")
    return told if isinstance(told, bool) else True if kind and tied_by_default(kind) else None


def trimmed(config: dict[str, Any]) -> dict[str, Any]:
    """Return a config.json without what no decision reads, so that facts stay small: code, labels, long lists."""
    kept = {}
    for key, value in config.items():
        if key in _UNREAD or (isinstance(value, list | str) and len(value) > _LONG):
            continue
        kept[key] = trimmed(value) if isinstance(value, dict) else value
    return kept


def strangers(config: dict[str, Any], catalog: Catalog) -> tuple[str, ...]:
    """Return what is said of classes that vLLM does not list: Transformers may run them, or nothing does."""
    native, backend = model_classes()
    named = [str(one) for one in _list(config.get("architectures")) if one]
    own = [one for one in named if one in native or _SUFFIX.sub("ForCausalLM", one) in native]
    if not named or own or any(one in catalog.removed for one in named):
        return ()
    if any(one in backend for one in named):
        return ("vLLM runs it through the Transformers backend: slower, with fewer features",)
    return (f"vLLM {catalog.vllm} does not list {', '.join(named)}",)


def obstacles(config: dict[str, Any], catalog: Catalog) -> tuple[str, ...]:
    """Return why the pinned vLLM cannot load a repository with this config.json; empty when nothing is known."""
    found = []
    classes = [str(one) for one in _list(config.get("architectures")) if one]
    gone = [one for one in classes if one in catalog.removed]
    if gone:
        found.append(f"vLLM {catalog.vllm} no longer has {', '.join(gone)}")
    quant = config.get("quantization_config")
    method = str(quant.get("quant_method") or "").lower() if isinstance(quant, dict) else ""
    if re.search(r"load_in_[48]bit", str(quant)) and not method:
        method = "bitsandbytes"
    if method in _UNLOADABLE:
        found.append(f"vLLM {catalog.vllm} does not load {method} weights")
    return tuple(found)


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
