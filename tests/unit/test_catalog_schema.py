"""The packaged catalogue obeys its schema, and the compiler makes such a catalogue from any source of that form."""

from __future__ import annotations

import copy
import json
import re
from importlib import resources
from typing import Any

import pytest
import yaml

from tools.catalog import main

_TYPES = {"object": dict, "array": list, "string": str, "boolean": bool, "null": type(None)}


def _read(name: str) -> dict[str, Any]:
    return json.loads(resources.files("orchestrator").joinpath(f"data/{name}").read_text(encoding="utf-8"))


SCHEMA, DATA = _read("catalog.schema.json"), _read("catalog.json")


def _is(value: Any, kind: str) -> bool:
    if kind in ("integer", "number"):
        wide = (int, float) if kind == "number" else int
        return isinstance(value, wide) and not isinstance(value, bool)
    return isinstance(value, _TYPES[kind])


def problems(value: Any, schema: dict[str, Any], at: str = "$") -> list[str]:
    """The part of JSON Schema that ours uses; an unknown keyword is a mistake in the schema."""
    known = {"$schema", "title", "description", "$defs", "$ref", "type", "enum", "pattern", "required", "properties",
             "additionalProperties", "items", "minItems", "maxItems", "exclusiveMinimum"}  # fmt: skip
    assert set(schema) <= known, set(schema) - known
    if "$ref" in schema:
        return problems(value, SCHEMA["$defs"][schema["$ref"].rsplit("/", 1)[-1]], at)
    kinds = schema.get("type", [])
    if kinds and not any(_is(value, kind) for kind in ([kinds] if isinstance(kinds, str) else kinds)):
        return [f"{at}: {value!r} is no {kinds}"]
    found = []
    if "enum" in schema and not any(value is one or (value == one and type(value) is type(one)) for one in schema["enum"]):
        found.append(f"{at}: {value!r} is none of {schema['enum']}")
    if isinstance(value, str) and not re.search(schema.get("pattern", ""), value):
        found.append(f"{at}: {value!r} does not match")
    if "exclusiveMinimum" in schema and value <= schema["exclusiveMinimum"]:
        found.append(f"{at}: {value} is too small")
    if isinstance(value, list):
        if not schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", len(value)):
            found.append(f"{at}: {len(value)} items")
        for n, one in enumerate(value):
            found += problems(one, schema.get("items", {}), f"{at}[{n}]")
    if isinstance(value, dict):
        found += [f"{at}: {key} is missing" for key in schema.get("required", ()) if key not in value]
        for key, one in value.items():
            rest = schema.get("additionalProperties", True)
            inner = schema.get("properties", {}).get(key, rest)
            if inner is False:
                found.append(f"{at}: {key} is unknown")
            elif inner is not True:
                found += problems(one, inner, f"{at}.{key}")
    return found


def test_the_catalogue_obeys_its_schema() -> None:
    assert problems(DATA, SCHEMA) == []


@pytest.mark.parametrize(
    ("key", "value"),
    [("layers", 0), ("layers", "32"), ("hf", "no-owner"), ("gated", "perhaps"), ("task", "chat"), ("surprise", 1),
     ("tags", []), ("quantized", [["one"]]), ("kv_heads", True)],
)
def test_the_schema_can_refuse(key: str, value: object) -> None:
    data = copy.deepcopy(DATA)
    data["models"][0][key] = value
    assert problems(data, SCHEMA)


def test_no_name_and_tag_stands_for_two_models() -> None:
    seen: dict[str, str] = {}
    for model in DATA["models"]:
        for tag in model["tags"]:
            assert seen.setdefault(f"{model['name']}:{tag}".lower(), model["hf"]) == model["hf"]
    assert len({model["hf"] for model in DATA["models"]}) == 313


def test_every_model_has_a_family() -> None:
    assert set(DATA["families"]) >= {model["name"] for model in DATA["models"]}


def test_the_compiler_makes_what_the_schema_wants(tmp_path, capsys: pytest.CaptureFixture[str]) -> None:
    model = {
        "ollama": {"name": "acme", "tag": "8x7b", "other_tags": ["24b-small-2507 (2505 for the first release)"]},
        "hf": "acme/Acme-8x7B", "task": "generate", "layers": 32, "heads": None, "gated": False, "notes": "prose",
        "source": {"hf": "somewhere"}, "verified": {"hf": True, "pairing": "by-name", "numbers": True},
        "quantized": [{"repo": "acme/Acme-8x7B-FP8", "scheme": "fp8", "source": "there", "verified": True}],
        "extra": {"hybrid": "every 4th layer", "moe": "64 routed experts (Lite) / 160 (8x7b), 6 active"},
    }  # fmt: skip
    rules = {
        "gguf_quants": {"Q8_0": {"bits_per_weight": 8.5, "nearest": "fp8"}},
        "gguf_architectures": {"llama": {"hf_classes": ["LlamaForCausalLM"], "task": "generate"}},
        "vllm_registry": {"tool_parsers": ["hermes"], "reasoning_parsers": ["qwen3"], "no_longer_supported": ["Gone"]},
        "ollama_parser_hints": {"map": {"a": "hermes/qwen3", "b": "x or hermes/none", "c": "none verified",
                                        "d": "hermes/qwen3 (unverified)"}},
    }  # fmt: skip
    source = tmp_path / "catalogue.yaml"
    source.write_text(yaml.safe_dump({
        "meta": {"made": "2026-01-02", "vllm": "0.32.0 (the package)"}, "rules": rules,
        "families": {"acme": {"default_tag": "8x7b", "default_quant": "Q4_0"}}, "models": [model],
    }))  # fmt: skip
    main(str(source))
    made = json.loads(capsys.readouterr().out)
    assert problems(made, SCHEMA) == []
    assert made["parser_hints"] == {"a": ["hermes", "qwen3"], "b": ["hermes", None]}
    only = made["models"][0]
    assert only["tags"] == ["8x7b", "24b-small-2507"]
    assert (only["experts"], only["hybrid"]) == (160, True)
    assert "notes" not in only
    assert "heads" not in only
