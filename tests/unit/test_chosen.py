"""Every value of an engine is printed with its reason; what the user says himself wins and is named."""

from __future__ import annotations

import re

import pytest
from decide_cases import cases, facts, read

from orchestrator.decide.capability import of_models, of_spec
from orchestrator.decide.catalog import load
from orchestrator.decide.chosen import chosen_lines
from orchestrator.decide.mapping import Mapping
from orchestrator.decide.planning import decide_plan
from orchestrator.decide.propose import propose

KEYS = ("max-model-len ", "max-num-seqs ", "KV ", "utilisation ", "dtype ", "quantisation", "GPU", "CUDA graphs ", "prefix caching ")
LLAMA = {"name": "llama3.1:8b", "size": 4_920_753_328}


def _lines(case, overrides=None, *, proposed=True):
    found = propose("case", facts(case), overrides=overrides)
    return chosen_lines(found.spec, facts(case), load(), found.proof, proposed=proposed)


@pytest.mark.parametrize("path", cases("vram"), ids=lambda path: path.stem)
def test_each_engine_gets_a_line_for_every_value(path) -> None:
    case = read(path)
    found = propose("case", facts(case))
    lines = chosen_lines(found.spec, facts(case), load(), found.proof, proposed=True)
    heads = [line for line in lines if line.startswith("settings of ")]
    assert [line.split()[2].rstrip(",") for line in heads] == list(found.spec.engines)
    wanted = KEYS if found.spec.accelerator == "nvidia" else ("max-model-len ", "max-num-seqs ", "KV ", "dtype ")
    for engine in found.spec.engines.values():
        if engine.task == "generate":
            assert all(any(key in line for line in lines) for key in wanted), lines


def test_a_shortened_context_says_what_was_wanted() -> None:
    case = {"gpus": ["16376MiB cc8.9"], "models": [LLAMA]}
    told = _lines(case)
    assert any("max-model-len 4096: instead of 16384" in line or "Ollama's default" in line for line in told), told
    case = {"gpus": ["24GiB cc8.9"], "models": [LLAMA], "env": {"OLLAMA_CONTEXT_LENGTH": "65536"}}
    assert any("instead of 65536 (today's OLLAMA_CONTEXT_LENGTH), on both sides" in line for line in _lines(case))


def test_ones_own_flags_win_and_are_named() -> None:
    case = {"gpus": ["40GiB cc8.0"], "models": [LLAMA], "env": {"OLLAMA_CONTEXT_LENGTH": "8192"}}
    laid = {"engines": {"llama3-1-8b": {"vllm": {"args": ["--max-num-seqs=7", "--no-enable-prefix-caching"]}}}}
    told = _lines(case, laid)
    assert any(line.strip().startswith("max-num-seqs 7: ") for line in told)
    assert any("prefix caching off: as your own flag says" in line for line in told)
    assert any("yours win: max_num_seqs" in line for line in told)
    assert not any("yours win" in line for line in _lines(case))


def test_a_file_of_the_user_is_not_explained_as_our_choice() -> None:
    case = {"gpus": ["40GiB cc8.0"], "models": [LLAMA], "env": {"OLLAMA_CONTEXT_LENGTH": "8192"}}
    told = _lines(case, {"engines": {"llama3-1-8b": {"max_model_len": 2048}}}, proposed=False)
    assert "(values of migrate.yaml)" in told[0]
    assert any("max-model-len 2048: as stated" in line for line in told)


def test_float16_is_said_where_there_is_no_bfloat16() -> None:
    old = {"gpus": ["24GiB cc7.5"], "models": [LLAMA], "env": {"OLLAMA_CONTEXT_LENGTH": "8192"}}
    assert any("float16" in line for line in _lines(old))
    assert not any("float16" in line for line in _lines({**old, "gpus": ["24GiB cc8.6"]}))


def test_the_capability_that_counts_is_that_of_what_is_proposed() -> None:
    assert of_models([]) is None
    assert of_models([Mapping("x", None, "none")]) is None
    assert of_models([Mapping("x", "a/x", "likely", scheme="mxfp4"), Mapping("y", "a/y", "likely")]) == 7.5
    assert of_models([Mapping("x", "a/x", "likely", scheme="mxfp4")]) == 8.0
    case = {"gpus": ["24GiB cc8.9"], "models": [LLAMA], "env": {"OLLAMA_CONTEXT_LENGTH": "8192"}}
    spec = propose("case", facts(case)).spec
    assert of_spec(spec, facts(case), load()) == 7.5

    def with_scheme(scheme: str):
        engines = {name: one.model_copy(update={"quantization": scheme}) for name, one in spec.engines.items()}
        return spec.model_copy(update={"engines": engines})

    assert of_spec(with_scheme("mxfp4"), facts(case), load()) == 8.0
    assert of_spec(with_scheme("nvfp4"), facts(case), load()) == 7.5, "weight-only kernels run it on older cards"
    old = facts({**case, "gpus": ["24GiB cc7.5"]})
    assert decide_plan("case", old, written=with_scheme("mxfp4")).verdict.kind == "cannot"
    assert decide_plan("case", old, written=with_scheme("fp8")).verdict.kind != "cannot"
    unknown = spec.model_copy(update={"engines": {name: one.model_copy(update={"repo": "/models/x", "quantization": None})
                                                  for name, one in spec.engines.items()}})  # fmt: skip
    assert of_spec(unknown, facts(case), load()) is None
    assert of_spec(spec.model_copy(update={"accelerator": "cpu"}), facts(case), load()) is None


def test_utilisation_is_explained_by_what_it_comes_to_on_this_gpu() -> None:
    [line] = [one for one in _lines({"gpus": ["24GiB cc8.9"], "models": [LLAMA]}) if "utilisation" in one]
    share, asked = re.findall(r"utilisation ([\d.]+): ([\d.]+) GiB of the GPU", line)[0]
    assert abs(float(share) * 24 - float(asked)) < 0.06, line
