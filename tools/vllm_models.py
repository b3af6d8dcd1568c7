"""The model classes that vLLM can load, from an installed vLLM's registry, as orchestrator/data/vllm-models.json.

Run: PYTHON_WITH_VLLM tools/vllm_models.py > orchestrator/data/vllm-models.json
or: python tools/vllm_models.py SITE_PACKAGES/vllm VERSION > orchestrator/data/vllm-models.json
"""

from __future__ import annotations

import ast
import json
import sys
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

NATIVE = ("_TEXT_GENERATION_MODELS", "_EMBEDDING_MODELS", "_LATE_INTERACTION_MODELS", "_REWARD_MODELS",
          "_TOKEN_CLASSIFICATION_MODELS", "_SEQUENCE_CLASSIFICATION_MODELS", "_MULTIMODAL_MODELS")  # fmt: skip
BACKEND = ("_TRANSFORMERS_SUPPORTED_MODELS", "_TRANSFORMERS_BACKEND_MODELS")


def classes(source: str, tables: tuple[str, ...]) -> list[str]:
    """Return the keys of these dictionaries of registry.py."""
    found: set[str] = set()
    for node in ast.parse(source).body:
        named = isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id in tables
        if named and isinstance(node.value, ast.Dict):
            keys = [key.value for key in node.value.keys if isinstance(key, ast.Constant)]
            found |= {key for key in keys if isinstance(key, str)}
    return sorted(found)


def without_lora(models: Path) -> list[str]:
    """Return the registered architectures whose class, and none of its bases, supports LoRA."""
    bases: dict[str, set[str]] = {}
    for path in sorted(models.glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef):
                named = (name.id for base in node.bases for name in ast.walk(base) if isinstance(name, ast.Name))
                bases.setdefault(node.name, set()).update(named)

    def supports(name: str, seen: frozenset[str] = frozenset()) -> bool:
        return name == "SupportsLoRA" or (
            name not in seen and any(supports(base, seen | {name}) for base in bases.get(name, ()))
        )

    found = set()
    for node in ast.parse((models / "registry.py").read_text(encoding="utf-8")).body:
        named = isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id in NATIVE
        if not (named and isinstance(node, ast.Assign) and isinstance(node.value, ast.Dict)):
            continue
        for key, value in zip(node.value.keys, node.value.values, strict=True):
            if not (isinstance(key, ast.Constant) and isinstance(value, ast.Tuple)):
                continue
            name = str(ast.literal_eval(value.elts[1]))
            if name in bases and not supports(name):
                found.add(str(key.value))
    return sorted(found)


def main(arguments: list[str]) -> None:
    spec = None if arguments else find_spec("vllm")
    root = Path(arguments[0]) if arguments else Path(spec.origin or "").parent if spec else Path()
    source = (root / "model_executor" / "models" / "registry.py").read_text(encoding="utf-8")
    release = arguments[1] if len(arguments) > 1 else version("vllm").partition("+")[0]
    lines = [f'"vllm": {json.dumps(release)}']
    lines += [f'"{name}": {json.dumps(classes(source, tables))}'
              for name, tables in (("native", NATIVE), ("transformers", BACKEND))]  # fmt: skip
    lines.append(f'"no_lora": {json.dumps(without_lora(root / "model_executor" / "models"))}')
    sys.stdout.write("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main(sys.argv[1:])
