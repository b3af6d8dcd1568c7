"""Runs inside the vLLM image: {name: {config, rank, slots}} on stdin → bytes of the LoRA slots that vLLM makes.

Nothing is loaded: each model is made on torch's meta device, and its slots beside it.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import traceback
from collections import Counter
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
RENDEZVOUS = Path(tempfile.mkdtemp()) / "rendezvous"


def look(config: dict[str, Any], rank: int, slots: int) -> dict[str, Any]:
    import torch
    from vllm.config import set_current_vllm_config
    from vllm.distributed import destroy_model_parallel, init_distributed_environment, initialize_model_parallel
    from vllm.engine.arg_utils import EngineArgs
    from vllm.lora.model_manager import create_lora_manager
    from vllm.model_executor.model_loader.utils import initialize_model
    from vllm.utils.torch_utils import set_default_torch_dtype

    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "config.json").write_text(json.dumps(config))
        made = EngineArgs(model=folder, skip_tokenizer_init=True, load_format="dummy", enforce_eager=True,
                          max_model_len=1024, enable_lora=True, max_lora_rank=rank, max_loras=slots,
                          ).create_engine_config()  # fmt: skip
        with set_current_vllm_config(made):
            if not torch.distributed.is_initialized():
                init_distributed_environment(1, 0, f"file://{RENDEZVOUS}", 0, "gloo")
            destroy_model_parallel()
            initialize_model_parallel(1, 1)
            with set_default_torch_dtype(made.model_config.dtype), torch.device("meta"):
                model = initialize_model(made)
                manager = create_lora_manager(
                    model, max_num_seqs=4, max_num_batched_tokens=64, vocab_size=made.model_config.get_vocab_size(),
                    lora_config=made.lora_config, vllm_config=made, device=torch.device("meta"),
                )  # fmt: skip
    sizes: Counter[str] = Counter()
    seen: set[int] = set()
    for name, module in manager.model.named_modules():
        for key, value in vars(module).items():
            if "_stacked" not in key or key.endswith("_2d"):
                continue
            for one in value if isinstance(value, tuple | list) else [value]:
                if isinstance(one, torch.Tensor) and id(one) not in seen:
                    seen.add(id(one))
                    sizes[name.rsplit(".", 1)[-1]] += one.numel() * one.element_size()
    return {"bytes": sum(sizes.values()), "modules": dict(sizes)}


def main() -> None:
    found = {}
    for name, case in json.load(sys.stdin).items():
        try:
            found[name] = look(case["config"], case["rank"], case["slots"])
        except Exception:  # noqa: BLE001  # one architecture that fails must not hide the others
            found[name] = {"error": traceback.format_exc()[-1500:]}
    print("RESULT" + json.dumps(found))


if __name__ == "__main__":
    main()
