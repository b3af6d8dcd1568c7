"""Compile the catalogue of models (YAML with sources and notes) into what the product carries (compact JSON).

Run: python tools/catalog.py catalogue.yaml > orchestrator/data/catalog.json
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import yaml

KEPT = (
    "task", "architecture", "vllm_impl", "vllm_supported", "gated", "tool_parser", "reasoning_parser", "params_b",
    "active_params_b", "layers", "kv_heads", "heads", "head_dim", "hidden", "intermediate", "vocab",
    "kv_bytes_per_token_16bit", "max_context", "dtype", "base_repo", "aliases", "kv_note",
)  # fmt: skip


def entry(model: dict[str, Any]) -> dict[str, Any]:
    """Return one model without empty values, sources and prose."""
    own = model["ollama"]
    tags = [str(tag).split(" ")[0] for tag in (own["tag"], *(own.get("other_tags") or []))]
    found: dict[str, Any] = {"name": own["name"], "tags": tags, "hf": model["hf"]}
    found |= {key: model[key] for key in KEPT if model.get(key) not in (None, [], "")}
    if (model.get("extra") or {}).get("trust_remote_code"):
        found["trust_remote_code"] = True
    bits = (model.get("extra") or {}).get("bits_per_weight")
    if bits is not None:
        found["native_bits"] = bits
    found |= structure(model)
    pattern = attention(model)
    if pattern:
        found["attention"] = pattern
    found["quantized"] = [[item["repo"], item["scheme"]] for item in model["quantized"]]
    found["verified"] = {key: value for key, value in model["verified"].items() if key in ("pairing", "numbers")}
    return found


def structure(model: dict[str, Any]) -> dict[str, Any]:
    """Return what decides how dimensions are compared: number of routed experts, layers without a cache."""
    extra = model.get("extra") or {}
    found: dict[str, Any] = {"hybrid": True} if extra.get("hybrid") else {}
    size = str(model["ollama"]["tag"]).lower()
    told = str(extra.get("moe") or "")
    if told and "unverified" not in told:
        # "64 routed experts (Lite) / 160 (236B)": the part that names this size, else the first.
        parts = told.lower().split("/")
        own = next((part for part in parts if f"({size})" in part), parts[0])
        found["experts"] = int(re.findall(r"\d+", own)[0])
    elif mixture := re.match(r"(\d+)x\d", size):
        found["experts"] = int(mixture[1])
    return found


def attention(model: dict[str, Any]) -> dict[str, int]:
    """Return which layers keep less than everything.

    window and every: all but each every-th layer see `window` tokens; wide: head dimension of the others; full: so
    many layers keep a cache, the rest a state. A window that no share of the layers is named for is left out.
    """
    extra = model.get("extra") or {}
    held = re.search(r"only the (\d+) full-attention layers", str(model.get("kv_note") or ""))
    if held:
        return {"full": int(held[1])}
    text, size = str(extra.get("sliding_window") or ""), str(model["ollama"]["tag"]).lower()
    wide = re.search(r"head_dim (\d+) local, (\d+) global", text)
    if wide:    # neither window nor period is told: the larger window and the shorter period of the family
        return {"window": 1024, "every": 5, "wide": int(wide[2])}
    window = re.match(r"\d+", text)
    every, some = re.search(r"every (\d+)\w* layer", text), re.search(r"(\d+) of (\d+) layers", text)
    if not window or not (every or some):
        return {}
    own = re.search(r"\((\d+) for ([\w/]+)\)", text)
    named = own and size in own[2].split("/")
    share = int(every[1]) if every else int(some[2]) // (int(some[2]) - int(some[1])) if some else 0
    return {"window": int(own[1] if own and named else window[0]), "every": share}


def hints(table: dict[str, str], known: tuple[list[str], list[str]]) -> dict[str, list[str | None]]:
    """Return Ollama's parser names with the tool and reasoning parser of vLLM, only those that it has."""
    found = {}
    for name, text in table.items():
        if "/" in text and "unverified" not in text:
            pair = [half.split(" or ")[-1].strip() for half in text.split("/")]
            found[name] = [half if half in all_of else None for half, all_of in zip(pair, known, strict=True)]
    return found


def main(source: str) -> None:
    data = yaml.load(Path(source).read_text(encoding="utf-8"), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    rules = data["rules"]
    registry = rules["vllm_registry"]
    version = data["meta"]["vllm"].split(" ")[0]
    compiled = {
        "source": "Ollama names paired with Hugging Face repositories from public sources; architecture numbers from "
        "the models' own config.json as packaged by public projects; parser and class names from vLLM "
        f"{version}. Existence and gating on the Hub are not probed here.",
        "made": data["meta"]["made"],
        "vllm": version,
        "quants": {
            name: [quant["bits_per_weight"], quant["nearest"]] for name, quant in rules["gguf_quants"].items()
        },
        "architectures": rules["gguf_architectures"],
        "tool_parsers": registry["tool_parsers"],
        "reasoning_parsers": registry["reasoning_parsers"],
        "removed": registry["no_longer_supported"],
        "parser_hints": hints(
            rules["ollama_parser_hints"]["map"], (registry["tool_parsers"], registry["reasoning_parsers"])
        ),
        "families": {
            name: [family["default_tag"], family.get("default_quant")] for name, family in data["families"].items()
        },
        "models": [entry(model) for model in data["models"]],
    }
    lines = [f"{json.dumps(key)}:{body(value)}" for key, value in compiled.items()]
    sys.stdout.write("{\n" + ",\n".join(lines) + "\n}\n")


def body(value: Any) -> str:
    """Return JSON with one line per element of a list of objects, so that a diff can be read."""
    compact = {"ensure_ascii": False, "separators": (",", ":")}
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return "[\n" + ",\n".join(json.dumps(item, **compact) for item in value) + "\n]"
    return json.dumps(value, **compact)


if __name__ == "__main__":
    main(sys.argv[1])
