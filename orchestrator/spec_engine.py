"""An engine of the stack file: one vLLM, its adapters and replicas, and what is said to it directly."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from orchestrator.spec_types import Bytes, Name, Seconds, Section


class Vllm(Section):
    """What the user says to vLLM directly; it wins over what is rendered, and is checked first."""

    args: tuple[str, ...] = Field((), description="flags of `vllm serve`, one argument each")
    env: dict[str, str] = Field(default_factory=dict, description="environment of the container; no secrets")
    speculative: dict[str, Any] | None = Field(None, description="--speculative-config, as a mapping")
    chunked_prefill: bool | None = Field(None, description="vLLM's own default where it is not said")


class Engine(Section):
    """One vLLM: a repository, its revision and quantisation."""

    repo: str = Field(description="Hugging Face repository, or a path inside the container")
    revision: str | None = None
    task: Literal["generate", "embed"] = "generate"
    quantization: str | None = Field(None, description="only when vLLM cannot read it from the repository")
    dtype: str = "auto"
    gpus: tuple[str, ...] = Field((), description="GPU indexes or UUIDs, one per tensor-parallel rank")
    max_model_len: int = Field(8192, ge=128)
    max_num_seqs: int = Field(16, ge=1)
    max_num_batched_tokens: int | None = Field(None, ge=1)
    kv_cache: Bytes = Field(2**30, description="absolute KV budget per GPU: --kv-cache-memory-bytes")
    gpu_memory_utilization: float = Field(0.9, gt=0, le=1, description="passes vLLM's start-up check")
    kv_cache_dtype: Literal["auto", "fp8"] = "auto"
    enforce_eager: bool = False
    tool_call_parser: str | None = None
    reasoning_parser: str | None = None
    gated: bool = Field(default=False, description="needs HF_TOKEN and an accepted licence")
    start_timeout: Seconds = Field(1800.0, description="how long `up` waits for the engine")
    drain: Seconds = Field(120.0, description="how long a stopping engine may finish its requests")
    vllm: Vllm = Vllm()
    extra_args: tuple[str, ...] = Field((), description="older name of vllm.args")
    env: dict[str, str] = Field(default_factory=dict, description="older name of vllm.env")
    volumes: tuple[str, ...] = ()
    image: str | None = Field(None, description="overrides images.vllm")
    adapters: dict[Name, str] = Field(
        default_factory=dict, description="LoRA adapters: name to PEFT directory or repository"
    )
    replicas: int = Field(1, ge=1, le=16, description="copies of this engine; `gpus` are divided among them")

    @property
    def tensor_parallel(self) -> int:
        """GPUs of one replica."""
        return max(1, len(self.gpus) // self.replicas)
