from __future__ import annotations

import ast
import re

import pytest

from orchestrator.decide.alternatives import alternatives, online, others
from orchestrator.decide.catalog import Numbers, load
from orchestrator.decide.mapping import Mapping, map_model
from orchestrator.decide.recipe import recipe
from orchestrator.decide.vram import minimum_capability
from orchestrator.facts import Model

CATALOG = load()
CAPABILITIES = (7.5, 8.0, 8.6, 8.9, 9.0, 10.0, 12.0)


def _of(name: str, capability: float, quantization: str = ""):
    return alternatives(map_model(Model(name), CATALOG), capability, CATALOG, quantization)


@pytest.mark.parametrize("capability", CAPABILITIES)
def test_nothing_that_the_gpu_cannot_run_and_nothing_twice(capability: float) -> None:
    for entry in CATALOG.entries:
        found = _of(f"{entry.name}:{entry.tags[0]}", capability, "Q4_K_M")
        assert all(minimum_capability(one.scheme) <= capability or one.kind == "online" for one in found)
        assert len({(one.repo, one.flag) for one in found}) == len(found), entry.repo
        assert all(one.flag in ("", "fp8", "int8_per_channel_weight_only") for one in found)


def test_the_nearest_to_what_ollama_has_comes_first() -> None:
    assert _of("llama3.1:8b", 8.9, "Q4_K_M")[0].repo == "RedHatAI/Meta-Llama-3.1-8B-Instruct-quantized.w4a16"
    assert _of("llama3.1:8b", 8.9, "Q8_0")[0].scheme.startswith("fp8")
    assert _of("llama3.1:8b", 8.9, "F16")[0].kind == "published"
    assert _of("llama3.1:8b", 7.5, "Q8_0")[0].scheme == "w8a8-int8"
    assert _of("llama3.1:8b", 8.9)[0].kind == "published"


def test_the_authors_own_weights_come_before_others() -> None:
    found = [one for one in _of("qwen2.5:7b", 8.6, "Q4_K_M") if one.scheme in ("awq", "gptq-int4")]
    assert found[0].repo.startswith("Qwen/")


def test_online_where_nobody_published_any() -> None:
    bare = Mapping("x:7b", "acme/x-7b", "likely")
    assert [(one.kind, one.flag) for one in alternatives(bare, 8.9, CATALOG, "Q8_0")] == [("online", "fp8"), ("published", "")]
    assert "16 bit" in alternatives(bare, 8.0, CATALOG, "Q8_0")[0].why
    assert alternatives(bare, 7.5, CATALOG, "Q8_0")[0].flag == "int8_per_channel_weight_only"


def test_native_weights_stay_as_they_are() -> None:
    found = _of("gpt-oss:20b", 9.0, "MXFP4")
    assert found[0].kind == "published"
    assert all(one.kind != "online" for one in found)
    assert _of("gpt-oss:20b", 7.5, "MXFP4") == ()


def test_a_given_repository_is_not_exchanged() -> None:
    mapping = map_model(Model("llama3.1:8b"), CATALOG, "RedHatAI/Meta-Llama-3.1-8B-Instruct-quantized.w4a16")
    assert [one.repo for one in alternatives(mapping, 9.0, CATALOG, "Q4_K_M")] == [mapping.repo]


def test_what_stays_has_no_alternatives() -> None:
    assert alternatives(Mapping("x", None, "none"), 9.0, CATALOG) == ()


@pytest.mark.parametrize("scheme", ["W4A16", "FP8_DYNAMIC"])
@pytest.mark.parametrize("repo", ["acme/x-7b", "/models/it's \"\"\" odd\\", "acme/{brace}"])
@pytest.mark.parametrize("numbers", [Numbers(params_b=7.0), Numbers(vision=True), Numbers(experts=8)], ids=repr)
def test_a_recipe_is_python_that_names_the_model(scheme: str, repo: str, numbers: Numbers) -> None:
    text = recipe(Mapping("x", repo, "likely", numbers=numbers), scheme)
    tree = ast.parse(text)
    named = {one.targets[0].id: one.value.value for one in tree.body if isinstance(one, ast.Assign)
             and isinstance(one.value, ast.Constant)}
    assert named["MODEL"] == repo
    call = next(node for node in ast.walk(tree) if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "oneshot")
    words = {one.arg for one in call.keywords}
    assert ("dataset" in words) == (scheme == "W4A16")
    assert ("vision" in text) == numbers.vision
    assert ("gate$" in text) == numbers.moe


def test_no_recipe_where_there_is_nothing_to_make() -> None:
    assert recipe(Mapping("x", None, "none")) == ""
    assert recipe(Mapping("x", "acme/x-fp8", "given", scheme="fp8")) == ""
    assert recipe(Mapping("x", "acme/x", "likely", kind="embedding")) == ""
    with pytest.raises(ValueError, match="W2"):
        recipe(Mapping("x", "acme/x", "likely"), "W2")


@pytest.mark.parametrize("repo", ["acme/x-7b-AWQ", "acme/x-7b-FP8-dynamic", "acme/x_w4a16", "acme/x-int4", "acme/x-4bit",
                                  "acme/x.NVFP4", "acme/x-GPTQ-Int4"])  # fmt: skip
def test_what_is_quantised_already_is_not_quantised_again_on_load(repo: str) -> None:
    assert online(Mapping("x:7b", repo, "given"), 9.0) == []


@pytest.mark.parametrize("repo", ["acme/x-7b", "acme/print4you", "/models/w4", "acme/bitter-8b"])
def test_sixteen_bit_weights_can_be_quantised_on_load(repo: str) -> None:
    assert [one.flag for one in online(Mapping("x:7b", repo, "given"), 9.0)] == ["fp8"]


def test_nothing_is_made_of_experts_on_turing_nor_below_it() -> None:
    experts = Mapping("x", "acme/x", "likely", numbers=Numbers(experts=8))
    assert online(experts, 7.5) == []
    assert [one.flag for one in online(experts, 8.0)] == ["fp8"]
    assert online(Mapping("x", "acme/x", "likely"), 7.0) == []


def test_what_else_a_gpu_runs_is_named_nearest_first_without_what_was_taken() -> None:
    mapping = map_model(Model("llama3.1:8b"), CATALOG)
    taken = "RedHatAI/Meta-Llama-3.1-8B-Instruct-quantized.w4a16"
    said = others(mapping, 8.9, CATALOG, "Q4_K_M", (taken, ""))
    assert taken not in said
    assert said.index("AWQ-INT4") < said.index("GPTQ-INT4")
    assert "nearest to Ollama's Q4_K_M" in said
    assert re.search(r" and \d+ more$", said)
    assert others(Mapping("x:7b", "acme/x-7b", "given"), 8.9, CATALOG, "", ("acme/x-7b", "")).endswith(
        ": acme/x-7b (--quantization fp8)")  # fmt: skip
    assert others(Mapping("x:7b", "acme/x-awq", "given", scheme="awq"), 8.9, CATALOG, "", ("acme/x-awq", "")) == ""
