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


def main(arguments: list[str]) -> None:
    spec = None if arguments else find_spec("vllm")
    root = Path(arguments[0]) if arguments else Path(spec.origin or "").parent if spec else Path()
    source = (root / "model_executor" / "models" / "registry.py").read_text(encoding="utf-8")
    release = arguments[1] if len(arguments) > 1 else version("vllm").partition("+")[0]
    lines = [f'"vllm": {json.dumps(release)}']
    lines += [f'"{name}": {json.dumps(classes(source, tables))}'
              for name, tables in (("native", NATIVE), ("transformers", BACKEND))]  # fmt: skip
    sys.stdout.write("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main(sys.argv[1:])
