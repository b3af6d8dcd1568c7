"""From the command line to a bound port: the log's phases, the memory arithmetic, the refusals.

The texts are those of the real release, so that whatever reads a start-up log can be tried on this one.
"""

from __future__ import annotations

import math
import os
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

from orchestrator.standin.ledger import Gpu, Ledger
from orchestrator.standin.vllm import VERSION, startlog, weights
from orchestrator.standin.vllm.flags import MODEL_FLAG, Options

GIB = 1024**3
OVERHEAD = int(0.6 * GIB)  # activations at their peak
GRAPHS = int(0.5 * GIB)  # CUDA graphs; --enforce-eager saves them
CPU_CACHE_GIB = 4
MORE = "Try increasing `gpu_memory_utilization` or decreasing `max_model_len` when initializing the engine."
DOCS = "See https://docs.vllm.ai/en/latest/configuration/conserving_memory/ for more details."
PARSERS = "hermes", "llama3_json", "llama4_json", "mistral", "openai", "pythonic", "qwen3_coder", "qwen3_xml"
PHASES = 8


@dataclass(frozen=True)
class Ready:
    """What the engine was given: the longest request and the tokens that fit its cache."""

    max_model_len: int
    cache_tokens: int
    started: float


def validate(options: Options) -> None:
    """Refuse what the real server refuses before it prints anything else."""
    if options.auto_tools and not options.tool_parser:
        raise startlog.Failure("TypeError: Error: --enable-auto-tool-choice requires --tool-call-parser")
    if options.tool_parser and options.tool_parser not in PARSERS:
        chosen = ",".join(PARSERS)
        raise startlog.Failure(
            f"KeyError: 'invalid tool call parser: {options.tool_parser} (chose from {{ {chosen} }})'"
        )


def banner(options: Options) -> None:
    if options.used_model_flag:
        sys.stderr.write(MODEL_FLAG + "\n")
    picture = ("", "       █     █     █▄   ▄█", f" ▄▄ ▄█ █     █     █ ▀▄▀ █  version {VERSION}")
    for text in (*picture, f"  █▄█▀ █     █     █     █  model   {options.model}", "   ▀▀  ▀▀▀▀▀ ▀▀▀▀▀ ▀     ▀", ""):
        startlog.api(text, "api_utils.py:347")
    startlog.api(f"non-default args: {options.given}")


def bind(options: Options) -> socket.socket:
    """Return a bound socket that does not listen yet: callers are refused until the engine is ready."""
    bound = socket.socket(socket.AF_INET6 if ":" in options.host else socket.AF_INET, socket.SOCK_STREAM)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((options.host, options.port))
    except OSError as error:
        raise startlog.Failure(f"OSError: [Errno {error.errno}] {error.strerror}") from error
    return bound


def _invalid(config: str, text: str) -> startlog.Failure:
    return startlog.Failure(f"pydantic_core._pydantic_core.ValidationError: 1 validation error for {config}\n{text}")


def configure(options: Options) -> int:
    """Check the configuration and return the longest request (tokens); -1 fits it to the cache."""
    told = os.environ.get("STANDIN_FAIL", "")
    if told and told not in {"no_weights", "oom"}:
        raise startlog.Failure(startlog.FAILURES[told].format(model=options.model, initial="20.00", current="22.00"))
    if options.model.startswith(("/", "./")) and not os.path.exists(options.model):  # noqa: PTH110
        raise startlog.Failure(
            "huggingface_hub.errors.HFValidationError: Repo id must be in the form 'repo_name' or "
            f"'namespace/repo_name': '{options.model}'. Use `repo_type` argument if needed."
        )
    if options.quantization == "gguf":
        known = "['awq', 'auto_awq', 'fp8', 'gptq', 'gptq_marlin', 'awq_marlin', 'compressed-tensors', 'mxfp4']"
        text = f"  Value error, Unknown quantization method: gguf. Must be one of {known}. [type=value_error]"
        raise _invalid("ModelConfig", text)
    if not 0 < options.utilization <= 1:
        side = "less than or equal to 1" if options.utilization > 1 else "greater than 0"
        text = f"gpu_memory_utilization\n  Input should be {side} [input_value={options.utilization}, input_type=float]"
        raise _invalid("CacheConfig", text)
    derived = weights.of(options.model, options.quantization).context
    wanted = options.max_model_len
    if wanted is not None and wanted > derived:
        text = (
            f"  Value error, User-specified max_model_len ({wanted}) is greater than the derived max_model_len "
            f"(max_position_embeddings={derived} or model_max_length=None in model's config.json). [type=value_error]"
        )
        raise _invalid("ModelConfig", text)
    startlog.api("Resolved architecture: LlamaForCausalLM", "model.py:733")
    startlog.api(f"Using max model len {derived if wanted in (None, -1) else wanted}", "model.py:2152")
    return derived if wanted is None else wanted


def _gib(size: float) -> str:
    return f"{size / GIB:.2f}"


def reserve(options: Options, ledger: Ledger) -> list[Gpu]:
    """Check every device's free memory against the share asked for, and return the devices."""
    gpus = ledger.mine()
    if not gpus:
        raise startlog.Failure(startlog.FAILURES["no_gpu"])
    if options.tensor_parallel > len(gpus):
        raise startlog.Failure(
            f"ValueError: World size ({options.tensor_parallel}) is larger than the number of available GPUs "
            f"({len(gpus)}) in this node."
        )
    chosen = gpus[: options.tensor_parallel]
    for rank, gpu in enumerate(chosen):
        requested = math.ceil(gpu.total * options.utilization)
        if gpu.free < requested:
            raise startlog.Failure(
                f"ValueError: Free memory on device cuda:{rank} ({_gib(gpu.free)}/{_gib(gpu.total)} GiB) on startup is "
                f"less than desired GPU memory utilization ({options.utilization}, {_gib(requested)} GiB). Decrease "
                "GPU memory utilization or reduce GPU memory used by other processes.",
                engine=True,
            )
    return chosen


def cache_bytes(options: Options, total: int, loaded: int) -> int:
    """Return what is left for the cache on one device with `total` bytes and weights of `loaded` bytes."""
    if options.kv_bytes is not None:
        return options.kv_bytes
    graphs = 0 if options.eager else GRAPHS
    return math.ceil(total * options.utilization) - loaded - OVERHEAD - graphs


def neighbours(options: Options, before: Gpu, own: int, ledger: Ledger) -> int:
    """Return by how much others grew since `before`: profiling charges it to this engine's cache.

    Others that shrank make the real profiler fail; an absolute cache size skips the measurement.
    """
    if options.kv_bytes is not None:
        return 0
    now = next(gpu for gpu in ledger.gpus() if gpu.index == before.index)
    grown = now.used - own - OVERHEAD - before.used
    if grown < 0:
        free = before.free - OVERHEAD
        words = startlog.FAILURES["profiling"].format(initial=_gib(free), current=_gib(free - grown))
        raise startlog.Failure(words, engine=True)
    return grown


def fit(available: int, token: int, wanted: int) -> int:
    """Return the longest request that the cache holds, or raise what the real server says."""
    if available <= 0:
        raise startlog.Failure(f"ValueError: No available memory for the cache blocks. {MORE} {DOCS}", engine=True)
    longest = available // token // 16 * 16
    if wanted == -1:
        return longest
    if longest < wanted:
        raise startlog.Failure(
            f"ValueError: To serve at least one request with the model's max seq len ({wanted}), "
            f"({_gib(wanted * token)} GiB KV cache is needed, which is larger than the available KV cache memory "
            f"({_gib(available)} GiB). Based on the available memory, the estimated maximum model length is {longest}. "
            f"{MORE} {DOCS}",
            engine=True,
        )
    return wanted


def _load(options: Options, pause: Callable[[], None]) -> None:
    """Write the phases of loading weights."""
    startlog.worker(f"Starting to load model {options.model}...")
    pause()
    if os.environ.get("STANDIN_FAIL") in {"no_weights", "oom"}:
        raise startlog.Failure(startlog.FAILURES[os.environ["STANDIN_FAIL"]].format(model=options.model), engine=True)
    for percent in (0, 50, 100):
        sys.stderr.write(f"\nLoading safetensors checkpoint shards: {percent:3d}% Completed | {percent // 50}/2\n")
        pause()
    startlog.worker("Loading weights took 0.42 seconds", "default_loader.py:501")


def _compile(options: Options, pause: Callable[[], None]) -> None:
    if options.eager:
        return
    startlog.worker(
        "Using cache directory: /root/.cache/vllm/torch_compile_cache/0 for vLLM's torch.compile", "backends.py:900"
    )
    startlog.worker("Dynamo bytecode transform time: 3.10 s", "backends.py:960")
    pause()
    startlog.worker("Compiling a graph for compile range (1, 2048) takes 4.20 s", "backends.py:390")
    pause()


def boot(options: Options, ledger: Ledger | None) -> Ready:
    """Start the pretended engine: takes STANDIN_START_S seconds (2 by default), holds memory in the ledger."""
    seconds = float(os.environ.get("STANDIN_START_S", "2"))
    began = time.monotonic()

    def pause() -> None:
        time.sleep(seconds / PHASES)

    wanted = configure(options)
    pause()
    config = f"model='{options.model}', dtype={options.dtype}, max_seq_len={wanted}"
    startlog.engine(f"Initializing a V1 LLM engine (v{VERSION}) with config: {config}")
    facts = weights.of(options.model, options.quantization)
    ranks = options.tensor_parallel
    if ledger is None:
        _load(options, pause)
        _compile(options, pause)
        available = int(float(os.environ.get("VLLM_CPU_KVCACHE_SPACE", CPU_CACHE_GIB)) * GIB)
        longest = fit(available, facts.token, wanted)
        return _finish(options, "CPU", available // facts.token, longest, began)
    gpus = reserve(options, ledger)
    each = facts.weights // ranks
    for rank, gpu in enumerate(gpus):
        if each + OVERHEAD > ledger.allocate(gpu.index, each + OVERHEAD, f"rank{rank}"):
            raise startlog.Failure(
                "Failed to load model - not enough GPU memory. Try lowering --gpu-memory-utilization to free memory "
                "for weights, increasing --tensor-parallel-size, or using --quantization.",
                engine=True,
            )
    _load(options, pause)
    startlog.worker(f"Model loading took {_gib(each)} GiB memory and 1.20 seconds")
    _compile(options, pause)
    available = min(cache_bytes(options, gpu.total, each) - neighbours(options, gpu, each, ledger) for gpu in gpus)
    startlog.worker(f"Available KV cache memory: {_gib(available)} GiB", "gpu_worker.py:760")
    token = max(1, facts.token // ranks)
    longest = fit(available, token, wanted)
    if wanted == -1 and longest < facts.context:
        startlog.engine(
            f"Auto-fit max_model_len: reduced from {facts.context} to {longest} to fit in available KV cache memory "
            f"({_gib(available)} GiB GPU)",
            "kv_cache_utils.py:2477",
        )
    for rank, gpu in enumerate(gpus):
        ledger.allocate(gpu.index, available + (0 if options.eager else GRAPHS), f"cache{rank}")
    return _finish(options, "GPU", available // token, min(longest, facts.context), began)


def _finish(options: Options, kind: str, tokens: int, longest: int, began: float) -> Ready:
    ratio = tokens / longest
    most = f"Maximum concurrency for {longest:,} tokens per request: {ratio:.2f}x"
    startlog.engine(
        f"{kind} KV cache size: {tokens:,} tokens, {most}",
        "kv_cache_utils.py:2327",
    )
    if kind == "GPU" and not options.eager:
        startlog.worker("Graph capturing finished in 3 secs, took 0.50 GiB", "gpu_model_runner.py:6100")
    took = time.monotonic() - began
    startlog.engine(f"init engine (profile, create kv cache, warmup model) took {took:.2f} s", "core.py:402")
    startlog.api(f"Supported tasks: ['{'embed' if options.pooling else 'generate'}']", "entry.py:136")
    startlog.api(f"Starting vLLM server on http://{options.host}:{options.port}", "entry.py:140")
    return Ready(longest, tokens, time.time())
