"""A mapping after the Hub (or a cache, or a directory) was looked at: confirmed, corrected or refused."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from orchestrator.decide.catalog import Catalog, Numbers
from orchestrator.decide.dimensions import disagreements, gguf_numbers, installed, similar
from orchestrator.decide.hubfact import (
    ACCEPTED,
    GATED,
    LOCAL,
    MISSING,
    OPEN,
    HubFact,
    config_numbers,
    obstacles,
    strangers,
    usable,
)
from orchestrator.decide.mapping import Mapping, merged
from orchestrator.decide.shaping import shape_for
from orchestrator.decide.vram import family
from orchestrator.decide.weights import stored
from orchestrator.facts import Model
from orchestrator.spec import Spec

_COMPLETE = 0.85    # of what the parameters say: fewer bytes are not the whole model
_PADDED = 0.02      # of a vocabulary: tables are filled up to a round number of rows
_BYTES = {"bf16": 2.0, "fp8": 1.0, "int8": 1.0, "int4": 0.56, "nvfp4": 0.6, "mxfp4": 0.56}


def confirmed(mapping: Mapping, model: Model, facts: Iterable[HubFact], catalog: Catalog) -> Mapping:
    """Return the mapping after everything that was seen: its repository, else one of its other names, and the
    quantised ones, of which those that would not start are left out and the others have their real scheme.
    """  # fmt: skip
    seen = {one.repo: one for one in facts}
    if mapping.repo is None or not seen:
        return mapping
    mapping = _renamed(mapping, seen, catalog)
    if mapping.repo in seen:
        mapping = confirm(mapping, model, seen[mapping.repo], catalog)
    if mapping.repo is None:
        return mapping
    kept: list[tuple[str, str]] = []
    told: list[str] = []
    left: dict[str, list[str]] = {}
    for repo, scheme in mapping.quantized:
        real, why = _alternative(scheme, model, seen.get(repo), catalog)
        if why:
            left.setdefault(why, []).append(repo)
            continue
        kept.append((repo, real))
        told += [f"{repo} holds {real} weights, not {scheme}"] if family(real) != family(scheme) else []
    told += [f"left out, {why}: {', '.join(repos)}" for why, repos in left.items()]
    own = [(mapping.repo, mapping.scheme), *kept]
    sizes = {repo: size for repo, scheme in own if (size := files(seen.get(repo), mapping.numbers, scheme))}
    closed = frozenset(repo for repo, one in seen.items() if one.state in (ACCEPTED, GATED))
    return replace(mapping, quantized=tuple(kept), files=sizes, closed=closed, reasons=(*mapping.reasons, *told))


def files(fact: HubFact | None, numbers: Numbers | None = None, scheme: str = "bf16") -> int | None:
    """Return the bytes that a repository's weights take when loaded: vLLM makes 32-bit ones 16-bit.

    None where they were not seen, or are too few for the model: a download that has not ended, say.
    """
    if fact is None or (fact.weights or 0) <= 0 or not fact.config or not usable(fact):
        return None
    assert fact.weights is not None
    size = fact.weights // 2 if _whole(fact) else fact.weights
    return size if size > _COMPLETE * stored(numbers or Numbers(), family(scheme)) else None


def _whole(fact: HubFact) -> bool:
    return str(fact.config.get("torch_dtype") or fact.config.get("dtype")) == "float32"


def _renamed(mapping: Mapping, seen: dict[str, HubFact], catalog: Catalog) -> Mapping:
    """Return the mapping under another name of the same model where its own is not there."""
    known = catalog.by_repo(mapping.repo or "")
    gone = seen.get(mapping.repo or "")
    if known is None or gone is None or gone.state != MISSING or mapping.confidence == "given":
        return mapping
    names = [one for one in known[0].aliases if one in seen and usable(seen[one]) and seen[one].config]
    why = f"{mapping.repo} is not there; it is {names[0]} now" if names else ""
    return replace(mapping, repo=names[0], reasons=(*mapping.reasons, why)) if names else mapping


def _alternative(scheme: str, model: Model, fact: HubFact | None, catalog: Catalog) -> tuple[str, str]:
    """Return the scheme of a quantised repository, and why it cannot be used, if it cannot."""
    if fact is None:
        return scheme, ""
    if not usable(fact):
        return scheme, fact.state
    blocked = obstacles(fact.config, catalog) or tuple(_differences(model, config_numbers(fact.config)))
    return (config_scheme(fact.config) if fact.config else scheme), ", ".join(blocked)


def _differences(model: Model, theirs: Numbers) -> list[str]:
    """Return in what config.json and installed file differ; a vocabulary that is only filled up does not."""
    ours = gguf_numbers(model.architecture)
    near = ours.vocab and theirs.vocab and abs(ours.vocab - theirs.vocab) <= _PADDED * theirs.vocab
    return disagreements(ours, replace(theirs, vocab=None) if near else theirs)


def confirm(mapping: Mapping, model: Model, fact: HubFact, catalog: Catalog) -> Mapping:
    """Return the mapping with what was seen of its repository.

    Refused: classes and formats that vLLM lacks; and, unless the spec names the repository, which then is told,
    one that is not there, has a class that vLLM does not list, or other dimensions than the installed file.
    What is gated is said and left to the user to mend.
    """
    if mapping.repo is None or fact.repo != mapping.repo:
        return mapping
    refused = _refused(mapping, model, fact, catalog)
    if refused:
        return refused
    theirs, strange = config_numbers(fact.config), strangers(fact.config, catalog)
    unknown = catalog.by_repo(mapping.repo) is None
    scheme = config_scheme(fact.config) if fact.config else mapping.scheme
    if not unknown and family(scheme) == family(mapping.scheme):
        scheme = mapping.scheme
    numbers = merged(theirs, mapping.numbers) if theirs.layers else merged(mapping.numbers, theirs)
    told = [f"but its {one}" for one in _differences(model, theirs)]
    sized, notes = _sized(numbers, fact, scheme)
    if not unknown and scheme != mapping.scheme:
        notes.append(f"its config.json says {scheme} weights, not {mapping.scheme}")
    reasons = dict.fromkeys((*mapping.reasons, *told, *strange, *notes, fact.said))
    return replace(
        mapping,
        scheme=scheme,
        numbers=sized,
        shape=shape_for(mapping.repo, catalog, (model,), (fact,)),
        reasons=tuple(reasons),
        **_gate(mapping, fact),
    )


def _refused(mapping: Mapping, model: Model, fact: HubFact, catalog: Catalog) -> Mapping | None:
    """Return the mapping without its repository where what was seen forbids it."""
    given = mapping.confidence == "given"
    why = list(obstacles(fact.config, catalog))
    strange = strangers(fact.config, catalog)
    if strange and not given and "Transformers backend" not in strange[0]:
        why.append(f"{strange[0]}: it may not load; to try it, name {mapping.repo} in migrate.yaml")
    if fact.state == MISSING and not given:
        why.append(f"{mapping.repo} is {fact.said}")
    wrong = [] if why or given else _differences(model, config_numbers(fact.config))
    if wrong:
        why.append(f"config.json of {mapping.repo} does not match the installed file: {', '.join(wrong)}")
    names = (mapping.repo or "",) if wrong else mapping.candidates
    reasons = (*mapping.reasons, *why)
    return replace(mapping, repo=None, confidence="none", reasons=reasons, candidates=names) if why else None


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


def _sized(numbers: Numbers, fact: HubFact, scheme: str) -> tuple[Numbers, list[str]]:
    """Take the parameters from the size of the files where that tells them, or where nobody else did."""
    if not fact.weights or fact.weights < 0:
        return numbers, []
    kind = family(scheme)
    wide = 2.0 if _whole(fact) else 1.0
    held = fact.weights / _BYTES[kind] / (wide if kind == "bf16" else 1.0) / 1e9
    if numbers.params_b and kind != "bf16":
        return numbers, []
    if not numbers.params_b or similar(held, numbers.params_b):
        return replace(numbers, params_b=held), []
    # Files may lie there twice, or the name stands for another model: the larger number is planned with.
    said = f"its files hold {held:.3g}B parameters, where {numbers.params_b:.3g}B were expected"
    return replace(numbers, params_b=max(held, numbers.params_b)), [said]


def _gate(mapping: Mapping, fact: HubFact) -> dict[str, Any]:
    if fact.state in (OPEN, LOCAL):
        return {"gated": False, "gate_unsure": False, "gate": ""}
    if fact.state == ACCEPTED:
        return {"gated": True, "gate_unsure": False, "gate": ""}
    if fact.state == GATED:
        return {"gated": True, "gate_unsure": False, "gate": fact.said.removeprefix("gated: ")}
    return {"gate": mapping.gate}


def measured(
    repo: str, catalog: Catalog, models: Iterable[Model] = (), facts: Iterable[HubFact] = ()
) -> tuple[Numbers, str, int | None]:
    """Return the size, the scheme and the bytes of the files of a repository that a spec names, as far as is known.

    `models`: installed files that hold these weights.
    """
    model = next(iter(models), None)
    known = catalog.by_repo(repo)
    numbers, scheme = (known[0].numbers, known[1]) if known else (installed(model) if model else Numbers(), "bf16")
    fact = next((one for one in facts if one.repo == repo), None)
    if fact is None:
        return numbers, scheme, None
    mapping = Mapping("", repo, "given", numbers=numbers, scheme=scheme)
    found = confirm(mapping, model or Model(""), fact, catalog)
    return found.numbers, found.scheme, files(fact, found.numbers, found.scheme)


def refusals(spec: Spec, facts: Iterable[HubFact], catalog: Catalog) -> tuple[str, ...]:
    """Return why the repositories that a spec names cannot be loaded by the pinned vLLM, as far as they were seen."""
    seen = {one.repo: one for one in facts}
    return tuple(
        f"engine {name}: {engine.repo}: {why}"
        for name, engine in spec.engines.items() if engine.repo in seen
        for why in obstacles(seen[engine.repo].config, catalog)
    )  # fmt: skip
