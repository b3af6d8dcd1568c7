from __future__ import annotations

import json
import resource
import stat
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given as every
from hypothesis import settings
from hypothesis import strategies as st
from jinja2 import UndefinedError

from orchestrator.facts import Facts, Gpu, Model, OllamaFacts
from orchestrator.render import TOKEN, render, services, write
from orchestrator.rendering.environment import compose as escaped
from orchestrator.rendering.environment import fill
from orchestrator.spec import Spec

LLAMA = {"repo": "meta-llama/Llama-3.1-8B-Instruct", "gpus": ["0"], "kv_cache": "4GiB", "gated": True}


def spec(**changes: Any) -> Spec:
    data = {
        "name": "demo",
        "ollama": {"gpus": ["0"], "pinned": ["llama3.1:8b"], "context_length": 8192},
        "engines": {"llama": LLAMA},
        "routes": {"llama3.1:8b": {"engine": "llama"}},
    }
    return Spec.model_validate(data | changes)


def cpu(**changes: Any) -> Spec:
    engine = {"repo": "Qwen/Qwen2.5-0.5B-Instruct", "kv_cache": "1500MiB"}
    return spec(accelerator="cpu", ollama={}, engines={"llama": engine}, **changes)


def stack(given: Spec, facts: Facts | None = None) -> dict[str, Any]:
    return yaml.safe_load(render(given, facts)["compose.yaml"])


def command(given: Spec, facts: Facts | None = None, name: str = "vllm-llama") -> list[str]:
    return stack(given, facts)["services"][name]["command"]


def following(words: list[str], flag: str) -> str:
    assert words.count(flag) == 1, flag
    return words[words.index(flag) + 1]


def facts(**model: Any) -> Facts:
    return Facts(OllamaFacts("http://x", "0.32.6", (Model(**({"name": "llama3.1:8b"} | model)),)))


def config(given: Spec, name: str, known: Facts | None = None) -> dict[str, Any]:
    return json.loads(render(given, known)[name])


def test_only_the_gateway_is_published_and_exactly_where_ollama_was() -> None:
    given = spec(gateway={"listen": "10.1.2.3", "port": 8434, "control_port": 9999})
    found = stack(given)["services"]
    assert [name for name, service in found.items() if "ports" in service and "profiles" not in service] == ["gateway"]
    assert found["gateway"]["ports"] == [
        {"target": 11434, "published": "8434", "host_ip": "10.1.2.3", "protocol": "tcp"},
        {"target": 9180, "published": "9999", "host_ip": "127.0.0.1", "protocol": "tcp"},
    ]


def test_services_are_what_the_compose_file_has() -> None:
    for given in (spec(), cpu()):
        found = stack(given)["services"]
        assert sorted(services(given)) == sorted(name for name, service in found.items() if "profiles" not in service)
    assert "preload" not in services(cpu())


def test_every_service_comes_back_after_a_reboot_and_is_labelled() -> None:
    for name, service in stack(spec())["services"].items():
        assert service["restart"] == "unless-stopped", name
        assert service["labels"]["org.migrate.stack"] == "demo"
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert service["logging"]["options"]["max-size"]
        assert "depends_on" not in service, "Docker ignores it after a reboot"


def test_command_is_a_list_that_starts_with_the_model() -> None:
    words = command(spec())
    assert words[:4] == ["meta-llama/Llama-3.1-8B-Instruct", "--served-model-name", "llama3.1:8b",
                         "meta-llama/Llama-3.1-8B-Instruct"]  # fmt: skip
    assert following(words, "--max-model-len") == "8192"
    assert following(words, "--kv-cache-memory-bytes") == str(4 * 2**30)
    assert following(words, "--gpu-memory-utilization") == "0.9"
    assert following(words, "--generation-config") == "vllm"
    assert following(words, "--shutdown-timeout") == "120"
    assert "serve" not in words
    assert "--quantization" not in words


def test_grace_is_longer_than_the_drain() -> None:
    found = stack(spec(engines={"llama": LLAMA | {"drain": "5m"}}))["services"]
    assert found["vllm-llama"]["stop_grace_period"] == "330s"
    assert found["gateway"]["stop_grace_period"] == "330s"
    assert found["gateway"]["stop_signal"] == "SIGQUIT"


def test_sampling_defaults_are_those_of_ollamas_v1() -> None:
    plain = json.loads(following(command(spec()), "--override-generation-config"))
    assert plain == {"temperature": 1.0, "top_p": 1.0, "top_k": 40}
    own = {"temperature": 0.2, "top_p": 0.5, "top_k": 7, "min_p": 0.1, "repeat_penalty": 1.2, "num_predict": 5}
    found = json.loads(following(command(spec(), facts(parameters=own)), "--override-generation-config"))
    assert found == {"temperature": 1.0, "top_p": 1.0, "top_k": 7, "min_p": 0.1, "repetition_penalty": 1.2}


def test_parsers_tensor_parallel_and_revision_only_when_asked_for() -> None:
    engine = LLAMA | {
        "gpus": ["0", "1"], "tool_call_parser": "llama3_json", "reasoning_parser": "qwen3", "revision": "abc",
        "quantization": "awq", "max_num_batched_tokens": 4096, "kv_cache_dtype": "fp8", "extra_args": ["--x", "y"],
    }  # fmt: skip
    words = command(spec(engines={"llama": engine}))
    assert "--enable-auto-tool-choice" in words
    for flag, value in {"--tool-call-parser": "llama3_json", "--reasoning-parser": "qwen3", "--revision": "abc",
                        "--quantization": "awq", "--max-num-batched-tokens": "4096", "--kv-cache-dtype": "fp8",
                        "--tensor-parallel-size": "2"}.items():  # fmt: skip
        assert following(words, flag) == value
        assert flag not in command(spec())
    assert words[-2:] == ["--x", "y"]
    assert stack(spec(engines={"llama": engine}))["services"]["vllm-llama"]["shm_size"] == "8gb"


def test_on_the_cpu_the_cache_is_sized_by_environment_in_whole_gib() -> None:
    found = stack(cpu())["services"]
    assert found["vllm-llama"]["environment"]["VLLM_CPU_KVCACHE_SPACE"] == "2"
    assert not [word for word in found["vllm-llama"]["command"] if "gpu-memory" in word or "kv-cache-memory" in word]
    assert "deploy" not in found["vllm-llama"]
    assert found["ollama"]["environment"]["NVIDIA_VISIBLE_DEVICES"] == "void"


def test_gpus_are_reserved_by_id() -> None:
    found = stack(spec(ollama={"gpus": ["GPU-1"]}))["services"]
    device = found["ollama"]["deploy"]["resources"]["reservations"]["devices"][0]
    assert device == {"driver": "nvidia", "device_ids": ["GPU-1"], "capabilities": ["gpu"]}
    assert "NVIDIA_VISIBLE_DEVICES" not in found["ollama"]["environment"]


def test_ollama_is_pinned_only_where_it_shares() -> None:
    env = stack(spec(ollama={"gpus": ["0"], "pinned": ["a", "b"], "context_length": 4096, "num_parallel": 2,
                             "env": {"OLLAMA_KEEP_ALIVE": "5m", "OLLAMA_HOST": "127.0.0.1", "X": "1"}}))  # fmt: skip
    found = env["services"]["ollama"]["environment"]
    assert found == {
        "OLLAMA_KEEP_ALIVE": "-1", "X": "1", "OLLAMA_HOST": "0.0.0.0:11434", "OLLAMA_NOPRUNE": "1",
        "OLLAMA_CONTEXT_LENGTH": "4096", "OLLAMA_NUM_PARALLEL": "2", "OLLAMA_MAX_LOADED_MODELS": "2",
    }  # fmt: skip
    free = stack(spec(ollama={"gpus": ["1"]}))["services"]["ollama"]["environment"]
    assert "OLLAMA_KEEP_ALIVE" not in free
    assert "OLLAMA_MAX_LOADED_MODELS" not in free


def test_engine_waits_for_pinned_models_only_on_a_shared_gpu() -> None:
    gpus = (Gpu("0", "GPU-a", "x", 1, 1, 8.0), Gpu("1", "GPU-b", "x", 1, 1, 8.0))
    known = Facts(OllamaFacts("", ""), gpus)
    shared = spec(ollama={"gpus": ["GPU-a"], "pinned": ["llama3.1:8b"]})
    apart = spec(ollama={"gpus": ["GPU-b"], "pinned": ["llama3.1:8b"]})
    assert config(shared, "engine/llama.json", known)["pinned"] == ["llama3.1:8b"]
    assert config(apart, "engine/llama.json", known)["pinned"] == []


def test_a_mig_instance_is_given_to_docker_by_its_uuid() -> None:
    gpus = (Gpu("0:0", "MIG-a", "x", 1, 1, 9.0, mig=True), Gpu("0:1", "MIG-b", "x", 1, 1, 9.0, mig=True),
            Gpu("1", "GPU-c", "x", 1, 1, 9.0))  # fmt: skip
    known = Facts(OllamaFacts("", ""), gpus)
    given = spec(ollama={"gpus": ["0:1", "1"], "pinned": ["llama3.1:8b"]}, engines={"llama": {**LLAMA, "gpus": ["0:1"]}})
    services = yaml.safe_load(render(given, known)["compose.yaml"])["services"]
    devices = {name: services[name]["deploy"]["resources"]["reservations"]["devices"][0]["device_ids"]
               for name in ("ollama", "vllm-llama")}  # fmt: skip
    assert devices == {"ollama": ["MIG-b", "1"], "vllm-llama": ["MIG-b"]}
    assert config(given, "engine/llama.json", known)["pinned"] == ["llama3.1:8b"]


def test_the_original_ones_volumes_and_networks_are_carried_over_as_external() -> None:
    given = spec(ollama={"volumes": ["models:/root/.ollama", "/srv/x y:/data:ro"],
                         "networks": {"app_default": ["ollama", "llm"], "bridge": []}})  # fmt: skip
    found = stack(given)
    assert found["services"]["ollama"]["volumes"] == ["models:/root/.ollama", "/srv/x y:/data:ro"]
    assert found["volumes"]["models"] == {"external": True, "name": "models"}
    assert "ollama" not in found["volumes"]
    assert found["networks"]["original-0"] == {"external": True, "name": "app_default"}
    assert found["services"]["gateway"]["networks"]["original-0"]["aliases"] == ["ollama", "llm"]
    assert len(found["networks"]) == 2, "Docker's own bridge cannot be joined by name"
    assert list(found["services"]["ollama"]["networks"]) == ["default"]


def test_inside_names_cannot_be_taken_for_the_originals_aliases() -> None:
    found = config(spec(), "gateway/config.json")
    assert found["ollama"] == "migrate-demo-ollama:11434"
    aliases = stack(spec())["services"]["ollama"]["networks"]["default"]["aliases"]
    assert aliases == ["migrate-demo-ollama"]


def test_the_token_is_asked_for_only_where_a_repository_is_gated() -> None:
    gated = stack(spec())["services"]["vllm-llama"]["environment"]["HF_TOKEN"]
    assert gated.startswith("${HF_TOKEN:?")
    open_ = stack(spec(engines={"llama": LLAMA | {"gated": False}}))["services"]["vllm-llama"]["environment"]
    assert "HF_TOKEN" not in open_


def test_caches_persist_and_a_mount_of_the_users_replaces_one() -> None:
    mounts = stack(spec())["services"]["vllm-llama"]["volumes"]
    assert {"hf-cache:/root/.cache/huggingface", "vllm-cache:/root/.cache/vllm", "gpu-lock:/run/migrate-gpu"} <= set(mounts)
    engine = LLAMA | {"volumes": ["/data/hf:/root/.cache/huggingface"]}
    found = stack(spec(engines={"llama": engine}))
    assert "/data/hf:/root/.cache/huggingface" in found["services"]["vllm-llama"]["volumes"]
    assert "hf-cache" not in found["volumes"]


def test_eager_override_has_the_whole_command() -> None:
    files = render(spec())
    eager = yaml.safe_load(files["compose.eager.yaml"])["services"]["vllm-llama"]["command"]
    assert [word for word in eager if word != "--enforce-eager"] == command(spec())
    assert eager.count("--enforce-eager") == 1
    always = spec(engines={"llama": LLAMA | {"enforce_eager": True}})
    assert command(always).count("--enforce-eager") == 1


@pytest.mark.parametrize(
    ("model", "direct"),
    [
        ({}, True),
        ({"system": "You are a pirate."}, False),
        ({"messages": ({"role": "user", "content": "hi"},)}, False),
        ({"parameters": {"stop": ["<|start_header_id|>", "<|eot_id|>"], "top_k": 3}}, True),
        ({"parameters": {"stop": ["[INST]", "</s>"]}}, True),
        ({"parameters": {"stop": ["<|eot_id|>", "User:"]}}, False),
        ({"parameters": {"stop": "###"}}, False),
    ],
)
def test_direct_only_without_words_of_the_modelfile(model: dict[str, Any], direct: bool) -> None:
    found = config(spec(), "gateway/config.json", facts(**model))["routes"]["llama3.1:8b"]
    assert found["direct"] is direct


def test_routes_that_share_an_engine() -> None:
    given = spec(routes={"llama3.1:8b": {"engine": "llama"}, "MyBot": {"engine": "llama", "names": ["bot"]}})
    routes = config(given, "gateway/config.json")["routes"]
    assert list(routes) == ["llama3.1:8b", "mybot:latest"]
    assert routes["llama3.1:8b"]["names"] == ["meta-llama/Llama-3.1-8B-Instruct"]
    assert routes["mybot:latest"]["names"] == ["bot"], "the repository's name belongs to the first route"
    assert routes["mybot:latest"]["direct"] is False, "vLLM answers with the first name"
    words = command(given)
    names = words[words.index("--served-model-name") + 1 : words.index("--max-model-len")]
    assert names == ["llama3.1:8b", "MyBot", "mybot:latest", "mybot", "bot", "meta-llama/Llama-3.1-8B-Instruct"]
    assert config(given, "guard/config.json")["engines"]["llama"]["routes"] == ["llama3.1:8b", "mybot:latest"]


@pytest.mark.parametrize(
    ("more", "wanted"), [({}, "float32"), ({"dtype": "bfloat16"}, "bfloat16"), ({"task": "generate"}, None)]
)
def test_a_cpu_embeds_with_32_bit_unless_told_otherwise(more: dict[str, Any], wanted: str | None) -> None:
    engine = {"repo": "Qwen/Qwen3-Embedding-0.6B", "task": "embed", **more}
    kind = "embedding" if engine["task"] == "embed" else "generate"
    given = spec(accelerator="cpu", ollama={}, engines={"e": engine}, routes={"m": {"engine": "e", "kind": kind}})
    words = command(given, name="vllm-e")
    assert (following(words, "--dtype") if "--dtype" in words else None) == wanted


def test_embedding_route() -> None:
    engine = {"repo": "Qwen/Qwen3-Embedding-0.6B", "task": "embed", "gpus": ["0"], "kv_cache": 0}
    given = spec(engines={"e": engine}, routes={"qwen3-embedding": {"engine": "e", "kind": "embedding"}})
    words = command(given, name="vllm-e")
    assert following(words, "--runner") == "pooling"
    assert "--generation-config" not in words
    assert "--kv-cache-memory-bytes" not in words
    route = config(given, "gateway/config.json")["routes"]["qwen3-embedding:latest"]
    assert (route["kind"], route["direct"], route["failover"]) == ("embedding", False, False)
    assert config(given, "guard/config.json")["engines"]["e"]["kind"] == "embedding"


@pytest.mark.parametrize(
    ("gib", "more", "wanted"),
    [(None, {}, 16384), (24, {}, 2048), (80, {}, 8192), (80, {"max_num_batched_tokens": 4096}, 4096),
     (80, {"vllm": {"args": ["--max-num-batched-tokens=16K"]}}, 16384),
     (24, {"vllm": {"chunked_prefill": False}, "max_model_len": 32768}, 32768)],
)  # fmt: skip
def test_the_guard_knows_how_much_one_step_reads(gib: int | None, more: dict[str, Any], wanted: int) -> None:
    seen = replace(facts(), gpus=(Gpu("0", "GPU-0", "a GPU", gib * 2**30, 0, 9.0),)) if gib else None
    found = config(spec(engines={"llama": LLAMA | more}), "guard/config.json", seen)["engines"]["llama"]
    assert found["step_tokens"] == wanted


def test_adapter_knows_the_modelfile() -> None:
    own = {"system": "Be brief.", "digest": "abc", "size": 5, "capabilities": ("completion", "tools"),
           "parameters": {"temperature": 0.7}, "details": {"family": "llama"}}  # fmt: skip
    route = config(spec(), "adapter/config.json", facts(**own))["routes"]["llama3.1:8b"]
    assert route["url"] == "http://migrate-demo-vllm-llama:8000"
    assert (route["system"], route["digest"], route["size"]) == ("Be brief.", "abc", 5)
    assert route["parameters"] == {"temperature": 0.7}
    assert route["context_length"] == 8192


def test_role_reaches_the_gateway() -> None:
    assert json.loads(render(spec(), role="swap")["gateway/config.json"])["role"] == "swap"


def test_preload_sends_no_options() -> None:
    assert config(spec(), "preload/config.json")["models"] == [{"name": "llama3.1:8b", "options": {}, "kind": "generate"}]


_REPO = "Org/Model"
_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)


@every(value=_TEXT)
def test_any_string_survives_yaml_and_compose(value: str) -> None:
    """YAML gives back what went in, and Compose's interpolation undoes the doubling."""
    read = yaml.safe_load("key: " + escaped(value))["key"]
    assert read.replace("$$", "$") == value


@settings(deadline=None)
@every(value=_TEXT)
def test_a_strange_value_breaks_no_rendered_file(value: str) -> None:
    env = {"STRANGE": value}
    found = yaml.safe_load(render(spec(ollama={"env": env}))["compose.yaml"])
    assert found["services"]["ollama"]["environment"]["STRANGE"].replace("$$", "$") == value.replace("$$", "$")


def test_references_stay_references() -> None:
    assert escaped("${HF_TOKEN:?why not}") == '"${HF_TOKEN:?why not}"'
    assert escaped("price $5 ${X") == '"price $$5 $${X"'


def test_a_missing_value_is_an_error_with_its_name() -> None:
    with pytest.raises(UndefinedError, match="'project' is undefined"):
        fill("compose.yaml.j2")


def test_write_replaces_whole_files_and_keeps_the_token(tmp_path: Path) -> None:
    changed = write(tmp_path, {"a/b.txt": "one", "c.txt": "two"})
    assert changed == ["a/b.txt", "c.txt"]
    token = (tmp_path / TOKEN).read_text()
    assert len(token.strip()) >= 32
    assert stat.S_IMODE((tmp_path / TOKEN).stat().st_mode) == 0o600
    assert write(tmp_path, {"a/b.txt": "one", "c.txt": "three"}) == ["c.txt"]
    assert (tmp_path / TOKEN).read_text() == token
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "c.txt", "secrets"], "no temporary file is left"


def test_a_file_for_which_there_is_no_room_stays_as_it_was(tmp_path: Path) -> None:
    write(tmp_path, {"a/b.json": "{}"})
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
    try:
        with pytest.raises(OSError, match="large"):
            write(tmp_path, {"a/b.json": "x" * 200})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert (tmp_path / "a/b.json").read_text() == "{}"
    write(tmp_path, {"a/b.json": ""})
    assert (tmp_path / "a/b.json").read_text() == ""


def test_the_token_is_in_no_rendered_file(tmp_path: Path) -> None:
    files = render(spec())
    write(tmp_path, files)
    token = (tmp_path / TOKEN).read_text().strip()
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and path != tmp_path / TOKEN
                and token in path.read_text()]  # fmt: skip
