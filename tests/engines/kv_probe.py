"""Runs inside the vLLM image: {name: {config, args}} on stdin → the cache pages and weights of the real classes.

Nothing is loaded: each model is made on torch's meta device, so that full-size configurations work too.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import traceback
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
RENDEZVOUS = Path(tempfile.mkdtemp()) / "rendezvous"     # outlives the single model: every new group meets there
os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")


def look(config: dict[str, Any], args: dict[str, Any]) -> dict[str, Any]:
    import torch
    from vllm.config import set_current_vllm_config
    from vllm.distributed import destroy_model_parallel, init_distributed_environment, initialize_model_parallel
    from vllm.engine.arg_utils import EngineArgs
    from vllm.model_executor.model_loader.utils import initialize_model
    from vllm.utils.torch_utils import set_default_torch_dtype

    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "config.json").write_text(json.dumps(config))
        made = EngineArgs(model=folder, skip_tokenizer_init=True, load_format="dummy", enforce_eager=True,
                          **args).create_engine_config()  # fmt: skip
        with set_current_vllm_config(made):
            if not torch.distributed.is_initialized():
                init_distributed_environment(1, 0, f"file://{RENDEZVOUS}", 0, "gloo")
            destroy_model_parallel()
            initialize_model_parallel(1, 1)
            with set_default_torch_dtype(made.model_config.dtype), torch.device("meta"):
                model = initialize_model(made)
    layers = []
    for layer in made.compilation_config.static_forward_context.values():
        spec = layer.get_kv_cache_spec(made) if hasattr(layer, "get_kv_cache_spec") else None
        if spec is not None:
            layers.append({
                "spec": type(spec).__name__, "block": spec.block_size, "page": spec.page_size_bytes,
                "window": getattr(spec, "sliding_window", None), "sequence": spec.max_memory_usage_bytes(made),
            })
    admitted = _admitted(made)
    distinct = {id(one): one for one in model.parameters()}.values()
    return {
        "layers": layers, **admitted, "bytes": sum(one.numel() * one.element_size() for one in distinct),
        "batched_tokens": made.scheduler_config.max_num_batched_tokens, "max_model_len": made.model_config.max_model_len,
    }


def _admitted(made: Any) -> dict[str, int]:
    """Return what vLLM wants of the cache for one request of full length, its blocks laid out as on a GPU."""
    from vllm.platforms import current_platform
    from vllm.v1.core.kv_cache_utils import (
        _max_memory_usage_bytes_from_groups,
        _pool_bytes_per_block,
        get_kv_cache_groups,
    )

    made.scheduler_config.disable_hybrid_kv_cache_manager = False
    current_platform.update_block_size_for_backend(made)
    specs = {}
    for name, layer in made.compilation_config.static_forward_context.items():
        spec = layer.get_kv_cache_spec(made) if hasattr(layer, "get_kv_cache_spec") else None
        if spec is not None:
            specs[name] = spec
    found = {"in_flight": made.max_in_flight_tokens, "tokens_per_block": made.cache_config.block_size}
    for layout in ("LBHNC", "BLHNC"):       # layers outside blocks, and blocks outside layers
        made.cache_config.kv_cache_layout = layout
        groups = get_kv_cache_groups(made, dict(specs))
        found[layout] = [_max_memory_usage_bytes_from_groups(made, groups), _pool_bytes_per_block(made, groups) if groups else 0]
    return found


def main() -> None:
    found = {}
    for name, case in json.load(sys.stdin).items():
        try:
            found[name] = look(case["config"], case.get("args", {}))
        except Exception:  # noqa: BLE001  # one architecture that fails must not hide the others
            found[name] = {"error": traceback.format_exc()[-2000:]}
    print("RESULT" + json.dumps(found))


if __name__ == "__main__":
    main()
