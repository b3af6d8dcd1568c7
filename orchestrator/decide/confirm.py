"""A mapping after the Hub (or a cache, or a directory) was looked at: confirmed, corrected or refused."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from orchestrator.decide.catalog import Catalog, Numbers
from orchestrator.decide.dimensions import disagreements, gguf_numbers
from orchestrator.decide.hubfact import ACCEPTED, GATED, LOCAL, OPEN, HubFact, config_numbers, obstacles
from orchestrator.decide.mapping import Mapping, merged
from orchestrator.decide.vram import family
from orchestrator.facts import Model

_BYTES = {"bf16": 2.0, "fp8": 1.0, "int8": 1.0, "int4": 0.56, "nvfp4": 0.6, "mxfp4": 0.56}


def confirm(mapping: Mapping, model: Model, fact: HubFact, catalog: Catalog) -> Mapping:
    """Return the mapping with what was seen of its repository.

    Refused: classes and formats that vLLM lacks, and dimensions other than the installed file's, unless the spec
    names the repository, which then is told. What is gated or missing is said and left to the user to mend.
    """
    if mapping.repo is None or fact.repo != mapping.repo:
        return mapping
    blocked = obstacles(fact.config, catalog)
    if blocked:
        return replace(mapping, repo=None, confidence="none", reasons=(*mapping.reasons, *blocked))
    theirs = config_numbers(fact.config)
    wrong = disagreements(gguf_numbers(model.architecture), theirs)
    if wrong and mapping.confidence != "given":
        said = f"config.json of {mapping.repo} does not match the installed file: {', '.join(wrong)}"
        return replace(
            mapping, repo=None, confidence="none", reasons=(*mapping.reasons, said), candidates=(mapping.repo,)
        )
    unknown = catalog.by_repo(mapping.repo) is None
    scheme = config_scheme(fact.config) if unknown and fact.config else mapping.scheme
    numbers = merged(theirs, mapping.numbers) if unknown and theirs.layers else merged(mapping.numbers, theirs)
    told = [f"but its {one}" for one in wrong if f"but its {one}" not in mapping.reasons]
    return replace(
        mapping,
        scheme=scheme,
        numbers=_sized(numbers, fact, scheme, known=not unknown),
        reasons=(*mapping.reasons, *told, fact.said),
        **_gate(mapping, fact),
    )


def config_scheme(config: dict[str, Any]) -> str:
    """Return the scheme of weights that a config.json states, in the catalogue's words."""
    quant = config.get("quantization_config") or config.get("compression_config")
    if not isinstance(quant, dict) or not quant:
        return "bf16"
    method = str(quant.get("quant_method") or "").lower()
    text = f"{method} {quant.get('quant_algo') or ''} {quant.get('format') or ''} {quant.get('fmt') or ''}".lower()
    for words, scheme in (("nvfp4", "nvfp4"), ("mxfp4", "mxfp4"), ("fp4", "nvfp4")):
        if words in text:
            return scheme
    bits, kind = _weights_of(quant)
    if "fp8" in text or kind == "float" or (bits == 8 and "float" in text):
        return "fp8"
    if bits == 8:
        return "w8a8-int8"
    return {"awq": "awq", "gptq": "gptq-int4"}.get(method, "w4a16" if bits == 4 or "int4" in text else "bf16")


def _weights_of(quant: dict[str, Any]) -> tuple[int | None, str]:
    """Return bits and kind of the weights: at the top, or in the first group of compressed-tensors."""
    bits, kind = quant.get("bits") or quant.get("w_bit"), ""
    groups = quant.get("config_groups")
    for group in groups.values() if isinstance(groups, dict) else ():
        weights = group.get("weights") if isinstance(group, dict) else None
        if isinstance(weights, dict):
            bits, kind = bits or weights.get("num_bits"), kind or str(weights.get("type") or "")
    return (bits if isinstance(bits, int) else None), kind


def _sized(numbers: Numbers, fact: HubFact, scheme: str, *, known: bool) -> Numbers:
    """Fill in the parameters from the size of the files, where neither catalogue nor GGUF told them."""
    if known or numbers.params_b or not fact.weights:
        return numbers
    return replace(numbers, params_b=fact.weights / _BYTES[family(scheme)] / 1e9)


def _gate(mapping: Mapping, fact: HubFact) -> dict[str, Any]:
    if fact.state in (OPEN, LOCAL):
        return {"gated": False, "gate_unsure": False, "gate": ""}
    if fact.state == ACCEPTED:
        return {"gated": True, "gate_unsure": False, "gate": ""}
    if fact.state == GATED:
        return {"gated": True, "gate_unsure": False, "gate": fact.said.removeprefix("gated: ")}
    return {"gate": mapping.gate}
