"""What vLLM's log says while it starts: the phase it is in, and what went wrong, from its own words.

Texts as printed by vLLM 0.32 and the libraries below it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

PHASES: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern), text)
    for pattern, text in (
        (r"migrate: (waiting .*)", "{0}"),
        (r"version \d+\.\d+|non-default args:", "reading its configuration"),
        (r"Resolved architecture: (\w+)", "architecture {0}"),
        (r"Initializing a V1 LLM engine", "starting the engine process"),
        (r"Starting to load model", "loading weights"),
        (r"Time spent downloading weights for .*: ([\d.]+) s", "weights downloaded in {0} s"),
        (r"Loading safetensors checkpoint shards:\s+(\d+)% Completed", "loading weights, {0} %"),
        (r"Model loading took ([\d.]+) GiB", "weights loaded, {0} GiB"),
        (r"Dynamo bytecode transform|Compiling a graph|torch\.compile|Warming up model for the compilation",
         "compiling (once; cached afterwards)"),
        (r"Available KV cache memory: (-?[\d.]+) GiB", "KV cache memory {0} GiB"),
        (r"KV cache size: ([\d,]+) tokens", "KV cache for {0} tokens"),
        (r"Capturing CUDA graphs", "capturing CUDA graphs"),
        (r"init engine .* took ([\d.]+) s", "engine ready after {0} s"),
        (r"Starting vLLM server", "opening its port"),
        (r"Application startup complete", "ready"),
    )
)


@dataclass(frozen=True, slots=True)
class Failure:
    """A recognised failure: what happened, and what to change."""

    what: str
    advice: str


_FAILURES: tuple[tuple[str, str, str], ...] = (
    (r"Free memory on device \S+ \(([\d./]+) GiB\) on startup is less than desired GPU memory utilization \((.+?)\)",
     "the GPU has {0} GiB free, vLLM asked for {1}",
     "lower engines/NAME/gpu_memory_utilization, or free the memory that something else holds"),
    (r"Error in memory profiling", "another process released GPU memory while vLLM measured it",
     "let nothing load or unload on this GPU meanwhile, then run migrate up again"),
    (r"larger than the available KV cache memory \(([\d.]+) GiB\).*?estimated maximum model length is (\d+)",
     "one request of max_model_len does not fit into {0} GiB of KV cache",
     "set engines/NAME/max_model_len to {1} or less, or raise kv_cache"),
    (r"No available memory for the cache blocks|larger than the available KV cache memory",
     "no memory is left for the KV cache", "lower max_model_len or max_num_seqs, or use kv_cache_dtype: fp8"),
    (r"Failed to load model - not enough GPU memory|CUDA out of memory|OutOfMemoryError",
     "the weights do not fit on the GPU", "take a quantised repository, or more GPUs"),
    (r"User-specified max_model_len \((\d+)\) is greater than the derived max_model_len \(.*?=([\d.]+)",
     "max_model_len {0} is more than the model knows ({1})", "set engines/NAME/max_model_len to {1}"),
    (r"Model architectures \[(.*?)\] are not supported", "this vLLM does not know the architecture {0}",
     "use a newer image (images/vllm), or leave the model on Ollama"),
    (r"model type `(\w+)` but Transformers does not recognize", "this image does not know the model type {0}",
     "use a newer image (images/vllm)"),
    (r"gated repo|is a gated repository", "the repository is gated",
     "accept its licence on the Hub and put HF_TOKEN into the stack's .env"),
    (r"Repository Not Found for url|is not a local folder and is not a valid model identifier",
     "there is no such repository, or it is private", "correct engines/NAME/repo; a private one needs HF_TOKEN"),
    (r"Invalid credentials in Authorization header", "the Hub refuses the token", "correct HF_TOKEN in .env"),
    (r"couldn't connect to|Cannot find an appropriate cached snapshot folder",
     "the weights are not here and the Hub does not answer", "check the network, or fetch the weights beforehand"),
    (r"Repo id must be in the form", "the path of the model does not exist in the container",
     "mount it: engines/NAME/volumes"),
    (r"Cannot find any model weights with", "the repository has no weights that vLLM can read",
     "take a safetensors repository (vLLM does not read GGUF)"),
    (r"The quantization method (\S+) is not supported for the current GPU", "this GPU cannot run {0}",
     "take another quantisation"),
    (r"Unknown quantization method: (\S+?)\.?(?:\s|$)", "this vLLM has no quantisation {0}",
     "remove engines/NAME/quantization"),
    (r"Address already in use", "port 8000 in the container is taken", "remove --port from extra_args"),
    (r"could not select device driver \"nvidia\"", "Docker cannot hand out GPUs",
     "install the NVIDIA Container Toolkit and restart Docker"),
    (r"Failed to infer device type|No CUDA GPUs are available|Found no NVIDIA driver", "vLLM sees no GPU",
     "check engines/NAME/gpus and the NVIDIA Container Toolkit; without a GPU set accelerator: cpu"),
    (r"unsatisfied condition: cuda>=([\d.]+)|driver on your system is too old|Error 80[34]",
     "the driver is older than the image's CUDA", "update the driver, or take the image with the suffix -cu129"),
    (r"Bus error|Insufficient space in /dev/shm|No space left on device: '/dev/shm|shared memory segment /dev/shm",
     "shared memory is too small", "tensor parallelism needs a larger shm_size: add it in compose.override.yaml"),
    (r"No space left on device|Not enough free disk space to download the file", "the disk is full",
     "free disk space, then run migrate up again"),
    (r"DP adjusted local rank \S+ is out of bounds|World size \(\d+\) is larger than the number of available GPUs",
     "vLLM sees fewer GPUs than it is to use", "check engines/NAME/gpus: are they there, and free for containers?"),
    (r"no kernel image is available for execution", "this GPU is too old, or too new, for the image",
     "take another image: images/vllm"),
    (r"number of attention heads \((\d+)\) must be divisible by tensor parallel size \((\d+)\)",
     "{0} attention heads cannot be split over {1} GPUs", "name another number of GPUs in engines/NAME/gpus"),
    (r"--enable-auto-tool-choice requires --tool-call-parser", "tool calls need a parser",
     "set engines/NAME/tool_call_parser"),
    (r"(\d+) validation errors? for (\w+)\n(\w+)\n\s+(.*?)(?: \[type=|$)", "vLLM refuses {2}: {3}",
     "correct it in migrate.yaml, or in engines/NAME/extra_args"),
    (r"invalid tool call parser: (\S+)", "this vLLM has no tool parser {0}", "correct engines/NAME/tool_call_parser"),
    (r"unrecognized arguments: (.*)", "this vLLM does not know the flags: {0}", "correct engines/NAME/extra_args"),
    (r"Timed out waiting for engine core processes", "the engine took longer than vLLM waits",
     "raise VLLM_ENGINE_READY_TIMEOUT_S in engines/NAME/env"),
    (r"EngineDeadError", "the engine died while it served", "look at its log: migrate logs vllm-NAME"),
    (r"Value error, (.*?)(?: \[type=|$)", "vLLM refuses its configuration: {0}", "correct it in migrate.yaml"),
)
FAILURES = tuple((re.compile(pattern), what, advice) for pattern, what, advice in _FAILURES)


def phase(lines: list[str]) -> str:
    """Return what vLLM is doing, from the newest telling line; empty when nothing was said yet."""
    for line in reversed(lines):
        for pattern, text in reversed(PHASES):
            found = pattern.search(line)
            if found:
                return text.format(*found.groups())
    return ""


def explain(lines: list[str], engine: str) -> Failure | None:
    """Return the first recognised failure; vLLM's last lines only repeat that something went wrong."""
    text = "\n".join(lines)
    for pattern, what, advice in FAILURES:
        found = pattern.search(text)
        if found:
            groups = tuple(group or "?" for group in found.groups())
            return Failure(what.format(*groups), advice.format(*groups).replace("NAME", engine))
    return None


def telling(lines: list[str], most: int = 12) -> list[str]:
    """Return the lines worth showing: errors first, else the tail."""
    errors = [line for line in lines if re.search(r"ERROR|Error:|error:|ValueError", line)]
    chosen = [line for line in errors if not re.search(r"See root cause above|Traceback \(most recent", line)] or lines
    return [line[:300] for line in chosen[-most:]]
