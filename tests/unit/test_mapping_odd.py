"""Odd input is no traceback, and names that share weights share a repository."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.decide.catalog import load
from orchestrator.decide.confirm import confirm
from orchestrator.decide.hubfact import HubFact
from orchestrator.decide.lora import adapter
from orchestrator.decide.mapping import map_model
from orchestrator.decide.shared import map_models, weights_of
from orchestrator.facts import Model

CATALOG = load()
ODD = st.sampled_from([None, True, 0, -1, 3.5, math.nan, math.inf, "x", "", [], [1, None, 0, "a"], {}, {"a": 1}, 10**30, [8, 0, 8]])
GGUF = [
    "base_model.0.repo_url", "base_model.0.organization", "base_model.0.name", "base_model.count", "basename",
    "organization", "finetune", "size_label", "license", "license.link", "parameter_count",
    "source.huggingface.repository",
]  # fmt: skip
LLAMA = ["block_count", "embedding_length", "attention.head_count_kv", "attention.key_length", "vocab_size",
         "full_attention_interval", "nextn_predict_layers", "expert_count", "attention.kv_lora_rank"]  # fmt: skip
INFO = st.dictionaries(st.sampled_from([f"general.{key}" for key in GGUF] + [f"llama.{key}" for key in LLAMA]), ODD)
CONFIG = st.dictionaries(st.sampled_from([
    "architectures", "quantization_config", "text_config", "num_hidden_layers", "hidden_size", "layer_types",
    "num_attention_heads", "kv_lora_rank", "vocab_size", "vision_config"]), ODD)  # fmt: skip
NAMES = st.one_of(st.text(max_size=30), st.sampled_from(["", "::", "@", "hf.co/", "hf.co/a/b/c", "llama3.1:8b", "x:y:z"]))


@settings(max_examples=300, deadline=None)
@given(NAMES, INFO, st.sampled_from(["llama", None, 3, []]), CONFIG, st.sampled_from([None, "a/b", "/x", "..", "Qwen/Qwen3-8B"]))
def test_every_model_is_mapped_or_stays_with_a_reason(name, info, arch, config, given_repo) -> None:
    model = Model(name, architecture=info | {"general.architecture": arch}, capabilities=("tools", "thinking"))
    found = map_model(model, CATALOG, given_repo)
    assert found.reasons
    seen = confirm(found, model, HubFact(found.repo or "", "open", "open", config, 5), CATALOG)
    assert seen.reasons
    assert seen.tool_parser in (None, *CATALOG.tool_parsers)
    assert seen.reasoning_parser in (None, *CATALOG.reasoning_parsers)


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(st.sampled_from(["r", "target_modules", "rank_pattern", "bias", "peft_type", "modules_to_save"]), ODD))
def test_an_odd_adapter_has_problems_or_a_rank(config) -> None:
    found = adapter("a", "x/y", config, CATALOG.entries[0].numbers)
    assert found.problems or found.max_rank


def test_a_copy_is_what_it_was_copied_from() -> None:
    models = (Model("helper:latest", digest="aa"), Model("llama3.1:8b", digest="sha256:AA"), Model("other", digest="bb"))
    found = map_models(models, CATALOG)
    assert found["helper:latest"].repo == found["llama3.1:8b"].repo == "meta-llama/Llama-3.1-8B-Instruct"
    assert "the same weights as llama3.1:8b" in found["helper:latest"].reasons
    assert found["other"].repo is None


def test_models_made_from_one_blob_share_a_repository() -> None:
    line = {"modelfile": "FROM /root/.ollama/models/blobs/sha256-" + "c" * 64}
    models = (Model("bot", digest="1", details=line), Model("qwen3:8b", digest="2", details=line))
    assert weights_of(models[0]) == "c" * 64
    assert map_models(models, CATALOG)["bot"].repo == "Qwen/Qwen3-8B"


@pytest.mark.parametrize("more", ["\nADAPTER ./a.gguf"])
def test_an_adapter_is_not_its_base(more: str) -> None:
    line = "FROM /root/.ollama/models/blobs/sha256-" + "c" * 64
    models = (Model("bot", details={"modelfile": line + more}), Model("qwen3:8b", details={"modelfile": line}))
    assert map_models(models, CATALOG)["bot"].repo is None


def test_what_the_spec_says_of_a_copy_counts_for_that_name_and_its_twins() -> None:
    models = (Model("a", digest="1"), Model("b", digest="1"))
    found = map_models(models, CATALOG, {"a": "acme/own"})
    assert (found["a"].repo, found["b"].repo) == ("acme/own", "acme/own")
