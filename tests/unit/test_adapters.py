"""LoRA adapters from the stack file to the rendered command: what is read, refused, mounted and named."""

from __future__ import annotations

import json
import re
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from orchestrator import render
from orchestrator.clients.hub import Hub
from orchestrator.commands.adapters import seen
from orchestrator.decide import adapters
from orchestrator.decide.catalog import load
from orchestrator.errors import UsageError
from orchestrator.facts import AdapterFacts, Facts, HubFact, Model, OllamaFacts
from orchestrator.observe import factsfile
from orchestrator.observe.adapter import look
from orchestrator.rendering import engine
from orchestrator.spec import Spec, parse_spec
from orchestrator.spec_engine import Engine

REPO = "meta-llama/Llama-3.1-8B-Instruct"
CONFIG: dict[str, Any] = {
    "peft_type": "LORA", "r": 16, "lora_alpha": 32, "target_modules": ["q_proj", "v_proj"], "bias": "none",
    "base_model_name_or_path": REPO,
}  # fmt: skip
MODELS = (Model("llama3.1:8b", digest="sha256:1"), Model("support-bot:latest", digest="sha256:2"))


def spec(named: dict[str, str] | None = None, **engine_keys: Any) -> Spec:
    return parse_spec(yaml.safe_dump({
        "version": 1, "name": "x",
        "engines": {"llama": {"repo": REPO, "gpus": ["0"], "adapters": named or {"support": "./support"}, **engine_keys}},
        "routes": {"llama3.1:8b": {"engine": "llama"}, "support-bot": {"engine": "llama", "adapter": "support"}},
    }, sort_keys=False))  # fmt: skip


def facts(*found: AdapterFacts) -> Facts:
    return Facts(OllamaFacts("http://127.0.0.1:11434", "0.32.6", MODELS), adapters=found)


def known(where: str = "./support", name: str = "support", **change: Any) -> AdapterFacts:
    return AdapterFacts("llama", name, where, CONFIG | change)


def directory(path: Path, config: Any = None, weights: bytes | None = b"1234") -> Path:
    path.mkdir(parents=True)
    if config is not False:
        (path / "adapter_config.json").write_text(json.dumps(CONFIG if config is None else config))
    if weights is not None:
        (path / "adapter_model.safetensors").write_bytes(weights)
    return path


def safetensors(shapes: dict[str, list[int]]) -> bytes:
    header = json.dumps({name: {"dtype": "F32", "shape": shape, "data_offsets": [0, 0]} for name, shape in shapes.items()})
    return struct.pack("<Q", len(header)) + header.encode()


def words(one: Spec, seen_facts: Facts | None, flag: str) -> list[str]:
    line = engine.command(one, "llama", seen_facts)
    at = line.index(flag) + 1
    return line[at : next((n for n in range(at, len(line)) if line[n].startswith("--")), len(line))]


def test_an_adapter_becomes_a_lora_module_from_a_read_only_mount() -> None:
    one, looked = spec(), facts(known())
    assert words(one, looked, "--lora-modules") == ["support=/migrate/adapters/support"]
    assert words(one, looked, "--max-lora-rank") == ["16"]
    assert words(one, looked, "--max-loras") == ["1"]
    assert "--enable-lora" in engine.command(one, "llama", looked)
    service = yaml.safe_load(render.render(one, looked)["compose.yaml"])["services"]["vllm-llama"]
    assert "./support:/migrate/adapters/support:ro" in service["volumes"]


def test_an_engine_without_adapters_is_as_it_was() -> None:
    plain = parse_spec(yaml.safe_dump({
        "version": 1, "name": "x", "engines": {"llama": {"repo": REPO, "gpus": ["0"]}},
        "routes": {"llama3.1:8b": {"engine": "llama"}},
    }))  # fmt: skip
    assert not [word for word in engine.command(plain, "llama", None) if "lora" in word]


def test_every_name_under_which_the_adapter_is_asked_reaches_the_adapter() -> None:
    """vLLM does not validate names here, so a wrong one would silently be answered by the base model."""
    one, looked = spec(), facts(known())
    files = render.render(one, looked)
    modules = {word.partition("=")[0] for word in words(one, looked, "--lora-modules")}
    base = words(one, looked, "--served-model-name")
    assert not modules & set(base)
    assert not [name for name in base if "support" in name]
    config = json.loads(files["adapter/config.json"])["routes"]
    assert config["support-bot:latest"]["served"] in modules
    assert config["llama3.1:8b"]["served"] in base
    gateway = json.loads(files["gateway/config.json"])["routes"]
    # Only the dialect service puts the module's name in place of the client's spelling.
    assert gateway["support-bot:latest"]["direct"] is False
    assert gateway["llama3.1:8b"]["direct"] is True
    assert gateway["support-bot:latest"]["names"] == ["support"]
    assert json.loads(files["guard/config.json"])["engines"]["llama"]["model"] in base


def test_the_base_keeps_its_place_when_the_adapters_route_comes_first() -> None:
    one = parse_spec(yaml.safe_dump({
        "version": 1, "name": "x", "engines": {"llama": {"repo": REPO, "gpus": ["0"], "adapters": {"support": "a/b"}}},
        "routes": {"support-bot": {"engine": "llama", "adapter": "support"}, "llama3.1:8b": {"engine": "llama"}},
    }, sort_keys=False))  # fmt: skip
    gateway = json.loads(render.render(one, facts())["gateway/config.json"])["routes"]
    assert [gateway[name]["direct"] for name in ("support-bot:latest", "llama3.1:8b")] == [False, True]
    assert REPO in gateway["llama3.1:8b"]["names"]
    assert words(one, None, "--served-model-name")[0] == "llama3.1:8b"


def test_an_engine_for_an_adapter_alone_still_has_a_name_for_its_base() -> None:
    for repo in (REPO, "/models/tiny"):
        one = parse_spec(yaml.safe_dump({
            "version": 1, "name": "x", "engines": {"llama": {"repo": repo, "gpus": ["0"], "adapters": {"support": "a/b"}}},
            "routes": {"support-bot": {"engine": "llama", "adapter": "support"}},
        }))  # fmt: skip
        files = render.render(one, facts())
        assert words(one, None, "--served-model-name") == [repo]
        assert json.loads(files["guard/config.json"])["engines"]["llama"]["model"] == repo
        assert json.loads(files["adapter/config.json"])["routes"]["support-bot:latest"]["served"] == "support"


def test_a_repository_is_passed_as_it_is_and_may_be_downloaded() -> None:
    one = spec({"support": "acme/support-lora"}, gated=True)
    assert words(one, facts(), "--lora-modules") == ["support=acme/support-lora"]
    assert not adapters.mounts(one.engines["llama"])
    own = Engine(repo="/models/base", adapters={"support": "acme/support-lora"})
    assert "HF_HUB_OFFLINE" not in engine.environment_of(one, own)
    assert "HF_HUB_OFFLINE" in engine.environment_of(one, Engine(repo="/models/base", adapters={"support": "/a"}))
    assert "HF_TOKEN" in engine.environment_of(one, one.engines["llama"])


def test_a_path_below_a_mount_of_the_users_is_one_inside_the_container() -> None:
    one = spec({"support": "/models/lora"}, volumes=["/srv/models:/models:ro"])
    own = one.engines["llama"]
    assert words(one, facts(), "--lora-modules") == ["support=/models/lora"]
    assert adapters.mounts(own) == []
    assert adapters.on_host(own, "/models/lora") == "/srv/models/lora"
    assert adapters.on_host(own, "/modelsx/lora") == "/modelsx/lora"
    assert adapters.on_host(Engine(repo=REPO, volumes=("weights:/models",)), "/models/lora") is None


def test_rank_is_the_largest_and_slots_are_as_many_as_are_needed() -> None:
    named = {f"a{at}": f"./a{at}" for at in range(12)}
    one = spec({"support": "./support", **named})
    looked = facts(known(r=8), known("./a3", "a3", r=100))
    assert words(one, looked, "--max-lora-rank") == ["128"]
    assert words(one, looked, "--max-loras") == ["8"]
    assert words(one, looked, "--max-cpu-loras") == ["13"]


def test_the_users_own_slots_and_rank_win() -> None:
    one = spec(vllm={"args": ["--max-loras", "3", "--max-lora-rank=256"]})
    line = engine.command(one, "llama", facts(known()))
    assert line.count("--max-loras") == 1
    assert line[line.index("--max-loras") + 1] == "3"
    assert "--max-lora-rank=256" in line
    assert "--max-lora-rank" not in line


@pytest.mark.parametrize(
    ("change", "pattern"),
    [
        ({"engines": {"llama": {"adapters": {"support": "/x.gguf"}}}}, "engines/llama/adapters/support: a GGUF adapter"),
        ({"engines": {"llama": {"adapters": {"support": "one two"}}}}, "should be OWNER/NAME"),
        ({"engines": {"llama": {"adapters": {"support": "./a:b"}}}}, "without ':'"),
        ({"engines": {"llama": {"adapters": {"other": "./a"}}}}, "has no adapter 'support' .it has other"),
        ({"engines": {"llama": {"adapters": {}}}}, "name it in engines/llama/adapters"),
        ({"engines": {"llama": {"task": "embed"}}}, "embedding model takes no adapter"),
        ({"engines": {"llama": {"vllm": {"args": ["--lora-modules", "b=/b"]}}}}, "is rendered from adapters"),
        ({"routes": {"support-bot": {"engine": None}}}, "name the engine that loads it"),
        ({"routes": {"support": {"engine": "llama"}}}, "'support' belongs to the route 'support'"),
        ({"routes": {"llama3.1:8b": {"names": ["Support"]}}}, "'support' belongs to the route 'llama3.1:8b'"),
    ],
)
def test_what_does_not_fit_together_is_refused_with_its_path(change: dict[str, Any], pattern: str) -> None:
    data: dict[str, Any] = {
        "version": 1, "name": "x",
        "engines": {"llama": {"repo": REPO, "gpus": ["0"], "adapters": {"support": "./support"}}},
        "routes": {"llama3.1:8b": {"engine": "llama"}, "support-bot": {"engine": "llama", "adapter": "support"}},
    }  # fmt: skip
    for section, items in change.items():
        for name, keys in items.items():
            data[section].setdefault(name, {}).update(keys)
    with pytest.raises(UsageError) as refused:
        parse_spec(yaml.safe_dump(data))
    assert re.search(pattern, str(refused.value.evidence)), refused.value.evidence


def test_all_problems_are_told_at_once_with_their_paths() -> None:
    one = spec({"support": "./support", "dora": "./dora", "far": "./far", "other": "./other", "big": "./big"})
    looked = facts(
        known(), known("./dora", "dora", use_dora=True), AdapterFacts("llama", "far", "./far", problem="/far does not exist"),
        known("./other", "other", base_model_name_or_path="Qwen/Qwen2.5-7B-Instruct"), known("./big", "big", r=1024),
    )  # fmt: skip
    with pytest.raises(UsageError, match=r"m\.yaml: 4 problems") as refused:
        adapters.require(one, looked, "m.yaml")
    lines = str(refused.value.evidence).splitlines()
    assert [line.partition(":")[0] for line in lines] == [
        f"engines/llama/adapters/{name}" for name in ("dora", "far", "other", "big")
    ]
    for line, told in zip(lines, ("DoRA", "does not exist", "layers 32 instead of 28", "largest, 512"), strict=True):
        assert told in line


def test_what_was_not_seen_is_a_doubt_and_no_refusal() -> None:
    one = spec({"support": "./support", "spare": "./spare"})
    looked = facts(AdapterFacts("llama", "support", "./support", doubt="offline"))
    assert adapters.problems(one, looked) == []
    told = "\n".join(adapters.doubts(one, looked, load()))
    assert "adapter support was not looked at (offline); counted with rank 64" in told
    assert "adapter spare is loaded, but no route answers with it" in told
    assert words(one, looked, "--max-lora-rank") == ["64"]


def test_facts_of_another_path_do_not_count() -> None:
    assert adapters.seen(spec({"support": "./new"}), "llama", "support", facts(known("./old"))) is None


def test_a_directory_is_read_from_where_the_file_lies(tmp_path: Path) -> None:
    weights = safetensors({
        "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight": [24, 4096],
        "base_model.model.model.layers.0.self_attn.q_proj.lora_B.weight": [4096, 24],
        "__metadata__": [],
    })  # fmt: skip
    directory(tmp_path / "support", weights=weights)
    (found,) = look(spec().engines, tmp_path)
    assert (found.problem, found.doubt, found.size) == ("", "", len(weights))
    assert found.tensors == {"q_proj": (24, 4096, 4096)}
    assert words(spec(), facts(found), "--max-lora-rank") == ["32"]


@pytest.mark.parametrize(
    ("files", "told"),
    [
        ({}, "does not exist"),
        ({"adapter_config.json": "{"}, "no readable adapter_config.json"),
        ({"adapter_config.json": "[]"}, "no readable adapter_config.json"),
        ({"adapter_config.json": json.dumps(CONFIG)}, "has no adapter_model.safetensors"),
        ({"lora.gguf": "x"}, "a GGUF adapter alone cannot be loaded by vLLM"),
    ],
)
def test_what_is_no_adapter_is_a_problem_and_no_traceback(tmp_path: Path, files: dict[str, str], told: str) -> None:
    for name, text in files.items():
        (tmp_path / "support").mkdir(exist_ok=True)
        (tmp_path / "support" / name).write_text(text)
    (found,) = look(spec().engines, tmp_path)
    assert told in found.problem


@pytest.mark.parametrize("weights", [b"", b"12", b"\xff" * 16, struct.pack("<Q", 3) + b"[1]", struct.pack("<Q", 9) + b"{"])
def test_broken_weights_say_nothing(tmp_path: Path, weights: bytes) -> None:
    directory(tmp_path / "support", weights=weights)
    (found,) = look(spec().engines, tmp_path)
    assert (found.tensors, found.problem) == ({}, "")


def test_a_file_is_not_a_directory(tmp_path: Path) -> None:
    (tmp_path / "support").write_text("x")
    (found,) = look(spec().engines, tmp_path)
    assert "is a file" in found.problem


def test_a_cached_repository_is_read_offline(tmp_path: Path) -> None:
    directory(tmp_path / "hub" / "models--acme--lora" / "snapshots" / "1")
    with Hub({"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}) as hub:
        (found,) = look(spec({"support": "acme/lora"}).engines, tmp_path, hub)
        assert found.config["r"] == 16
        (lost,) = look(spec({"support": "acme/none"}).engines, tmp_path, hub)
        assert "offline" in lost.doubt


def test_a_plan_for_another_machine_uses_what_its_facts_hold(tmp_path: Path) -> None:
    one = spec({"support": "/not/here"})
    kept = seen(facts(known("/not/here")), one, {}, tmp_path, elsewhere=True)
    assert kept.adapters == (known("/not/here"),)
    (unknown,) = seen(facts(), one, {}, tmp_path, elsewhere=True).adapters
    assert "another machine" in unknown.doubt
    (here,) = seen(facts(known("/not/here")), one, {}, tmp_path).adapters
    assert "does not exist" in here.problem


def test_overrides_are_looked_at_before_there_is_a_file(tmp_path: Path) -> None:
    directory(tmp_path / "support")
    laid = {"engines": {"llama": {"adapters": {"support": "./support", "odd": 7}}, "x": 3, "y": {"adapters": []}}}
    (found,) = seen(facts(), None, laid, tmp_path).adapters
    assert (found.engine, found.name, found.problem) == ("llama", "support", "")


def test_facts_with_adapters_survive_a_file() -> None:
    before = facts(AdapterFacts("llama", "support", "./support", CONFIG, 77, {"q_proj": (16, 4096, 4096)}, "", "why"))
    assert factsfile.loads(factsfile.dumps(before)).adapters == before.adapters


def test_a_class_for_which_vllm_loads_no_adapter_is_refused() -> None:
    falcon = spec(repo="tiiuae/falcon-7b-instruct")
    (told,) = adapters.problems(falcon, facts(known(base_model_name_or_path="")))
    assert "engines/llama/adapters: vLLM" in told
    assert "loads no LoRA for FalconForCausalLM" in told
    fact = HubFact("acme/model", "found", "open", {"architectures": ["StableLmForCausalLM", 7]})
    own = replace(facts(known(base_model_name_or_path="")), hub=(fact,))
    assert "StableLmForCausalLM" in adapters.problems(spec(repo="acme/model"), own)[0]
    assert adapters.problems(spec(), facts(known())) == []
    assert adapters.problems(spec(repo="acme/other"), facts(known(base_model_name_or_path=""))) == []


def hub_that_answers(status: int, body: Any = None) -> tuple[Hub, list[str]]:
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.path)
        if status == 0:
            raise httpx.ConnectError("no network")
        whole = [{"path": "adapter_model.safetensors", "size": 77}] if "/tree/" in request.url.path else body
        return httpx.Response(status, json=whole)

    return Hub({"HF_HOME": "/nowhere"}, httpx.MockTransport(answer)), asked


def test_a_repository_is_read_on_the_hub(tmp_path: Path) -> None:
    hub, _ = hub_that_answers(200, CONFIG | {"auto_mapping": None})
    (found,) = look(spec({"support": "acme/lora"}).engines, tmp_path, hub)
    hub.close()
    assert (found.config, found.size, found.problem, found.doubt) == (CONFIG, 77, "", "")


@pytest.mark.parametrize(
    ("status", "problem", "doubt"),
    [(401, "gated or private", ""), (403, "gated or private", ""), (404, "the Hub has no acme/lora", ""), (500, "", "answered 500")],
)
def test_what_the_hub_refuses_is_told(tmp_path: Path, status: int, problem: str, doubt: str) -> None:
    hub, _ = hub_that_answers(status)
    (found,) = look(spec({"support": "acme/lora"}).engines, tmp_path, hub)
    hub.close()
    assert problem in found.problem
    assert bool(problem) == bool(found.problem)
    assert doubt in found.doubt
    assert bool(doubt) == bool(found.doubt)


def test_a_silent_hub_is_waited_for_once(tmp_path: Path) -> None:
    hub, asked = hub_that_answers(0)
    found = look(spec({"support": "acme/lora", "legal": "acme/legal", "law": "acme/law"}).engines, tmp_path, hub)
    hub.close()
    assert len(asked) == 1
    assert all("not in the cache" in one.doubt for one in found)
