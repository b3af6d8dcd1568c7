"""What the stand-in knows of a model: the facts of its weights and the layers of its Modelfile."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

Json = dict[str, Any]
QUANT_TYPES = {"Q4_K_M": (15, "Q4_K"), "Q8_0": (7, "Q8_0"), "F16": (1, "F16"), "BF16": (32, "BF16")}


@dataclass(frozen=True)
class Weights:
    """The facts of a GGUF file; `size` in bytes."""

    family: str
    parameter_size: str
    parameters: int
    quantization: str
    size: int
    layers: int
    embedding: int
    heads: int
    kv_heads: int
    head_dim: int
    feed_forward: int
    context: int
    vocabulary: int
    pooling: bool = False
    base_model: str = ""

    def kv_bytes(self, tokens: int) -> int:
        """Return the bytes of an f16 key-value cache for so many tokens."""
        return 2 * self.layers * self.kv_heads * self.head_dim * 2 * tokens


@dataclass(frozen=True)
class Model:
    """A model of the store. `modified` is an epoch in nanoseconds, `digest` that of its manifest."""

    weights: Weights
    capabilities: tuple[str, ...]
    template: str = "{{ .Prompt }}"
    system: str = ""
    parameters: Json = field(default_factory=dict)
    messages: tuple[Json, ...] = ()
    license: str = ""
    parent: str = ""
    name: str = ""
    full: str = ""
    digest: str = ""
    blob: str = ""
    modified: int = 0

    @property
    def layers(self) -> list[tuple[str, bytes]]:
        """The Modelfile's layers after the weights, in the order of the manifest."""
        found = [
            ("template", self.template.encode()),
            ("license", self.license.encode()),
            ("system", self.system.encode()),
            ("params", json.dumps(self.parameters).encode() if self.parameters else b""),
            ("messages", json.dumps(self.messages).encode() if self.messages else b""),
        ]
        return [(kind, data) for kind, data in found if data]

    def can(self, capability: str) -> bool:
        return capability in self.capabilities

    def details(self, *, sized: bool = False) -> Json:
        shown: Json = {
            "parent_model": self.parent,
            "format": "gguf",
            "family": self.weights.family,
            "families": [self.weights.family],
            "parameter_size": self.weights.parameter_size,
            "quantization_level": self.weights.quantization,
        }
        if sized:
            shown |= {"context_length": self.weights.context, "embedding_length": self.weights.embedding}
        return shown


LLAMA_TEMPLATE = """{{- if or .System .Tools }}<|start_header_id|>system<|end_header_id|>

{{ .System }}{{ range .Tools }}{{ . }}{{ end }}<|eot_id|>
{{- end }}
{{- range .Messages }}<|start_header_id|>{{ .Role }}<|end_header_id|>

{{ .Content }}<|eot_id|>
{{- end }}<|start_header_id|>assistant<|end_header_id|>

"""
QWEN_TEMPLATE = """{{- if .System }}<|im_start|>system
{{ .System }}<|im_end|>
{{ end }}{{ range .Messages }}<|im_start|>{{ .Role }}
{{ .Content }}{{ .Thinking }}{{ range .ToolCalls }}<tool_call>{{ .Function }}</tool_call>{{ end }}<|im_end|>
{{ end }}<|im_start|>assistant
"""

LLAMA_8B = Weights(
    family="llama", parameter_size="8.0B", parameters=8_030_261_248, quantization="Q4_K_M", size=4_920_738_944,
    layers=32, embedding=4096, heads=32, kv_heads=8, head_dim=128, feed_forward=14336, context=131_072,
    vocabulary=128_256, base_model="meta-llama/Llama-3.1-8B-Instruct",
)  # fmt: skip
QWEN_06B = Weights(
    family="qwen3", parameter_size="751.63M", parameters=751_632_384, quantization="Q4_K_M", size=522_640_896,
    layers=28, embedding=1024, heads=16, kv_heads=8, head_dim=128, feed_forward=3072, context=40_960,
    vocabulary=151_936, base_model="Qwen/Qwen3-0.6B",
)  # fmt: skip
NOMIC = Weights(
    family="nomic-bert", parameter_size="137M", parameters=136_727_040, quantization="F16", size=274_290_656,
    layers=12, embedding=768, heads=12, kv_heads=12, head_dim=64, feed_forward=3072, context=2048,
    vocabulary=30_522, pooling=True,
)  # fmt: skip


def defaults() -> dict[str, Model]:
    """Return the models of a fresh volume, by name."""
    stops = ["<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]
    sampling = {"stop": ["<|im_start|>", "<|im_end|>"], "temperature": 0.6, "top_k": 20, "top_p": 0.95}
    return {
        "llama3.1:8b": Model(
            LLAMA_8B, ("completion", "tools"), LLAMA_TEMPLATE, parameters={"stop": stops}, license="Llama 3.1"
        ),
        "qwen3:0.6b": Model(
            QWEN_06B, ("completion", "tools", "thinking"), QWEN_TEMPLATE, parameters=sampling, license="Apache-2.0"
        ),
        "nomic-embed-text": Model(NOMIC, ("embedding",), license="Apache-2.0"),
    }
