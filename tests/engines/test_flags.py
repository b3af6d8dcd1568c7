"""Every flag that is rendered exists in the real vLLM under its full name, and is parsed to the value meant."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
import yaml

from orchestrator.spec import load_spec

STACKS = Path(__file__).parent.parent.parent / "stacks"
IMAGE = os.environ.get("MIGRATE_VLLM_IMAGE", "migrate/vllm-cpu:dev")
PARSE = """
import json, sys
from vllm.entrypoints.launchers.cli_args import make_arg_parser
from vllm.utils.argparse_utils import FlexibleArgumentParser
parser = make_arg_parser(FlexibleArgumentParser())
known = sorted(word for action in parser._actions for word in action.option_strings)
parsed = {}
for name, words in json.load(sys.stdin).items():
    found = vars(parser.parse_args(words))
    parsed[name] = {key: found[key] for key in ("model_tag", "served_model_name", "max_model_len", "max_num_seqs",
                    "kv_cache_memory_bytes", "shutdown_timeout", "generation_config", "override_generation_config",
                    "tool_call_parser", "tensor_parallel_size", "gpu_memory_utilization")}
print("RESULT" + json.dumps([known, parsed]))
"""


@pytest.mark.docker
@pytest.mark.vllm
def test_the_real_parser_understands_every_example() -> None:
    commands = {}
    for path in STACKS.glob("*/compose*.yaml"):
        for name, service in yaml.safe_load(path.read_text())["services"].items():
            if name.startswith("vllm-"):
                commands[f"{path.parent.name}/{path.name}/{name}"] = service["command"]
    done = subprocess.run(["docker", "run", "--rm", "-i", "--network", "none", "--entrypoint", "python3", IMAGE, "-c", PARSE],
                          input=json.dumps(commands), capture_output=True, text=True, check=False)  # fmt: skip
    assert done.returncode == 0, done.stderr
    known, parsed = json.loads(done.stdout.partition("RESULT")[2])
    for name, words in commands.items():
        assert [word for word in words if word.startswith("--") and word not in known] == [], name
    for name, found in parsed.items():
        folder, _, service = name.split("/")
        engine = load_spec(STACKS / folder / "migrate.yaml").engines[service.removeprefix("vllm-")]
        assert found["model_tag"] == engine.repo
        assert found["served_model_name"][-1] == engine.repo
        assert found["max_model_len"] == engine.max_model_len
        assert found["shutdown_timeout"] == engine.drain
        assert found["tensor_parallel_size"] == engine.tensor_parallel
        if engine.gpus:
            assert found["kv_cache_memory_bytes"] == engine.kv_cache
            assert found["gpu_memory_utilization"] == engine.gpu_memory_utilization
        if engine.task == "generate":
            assert found["generation_config"] == "vllm"
            assert found["override_generation_config"] == {"temperature": 1.0, "top_p": 1.0, "top_k": 40}
