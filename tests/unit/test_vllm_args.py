"""What a user adds to vLLM's command line: refused, warned of, or joined with what is rendered."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from orchestrator.decide.vllm_args import check, merge
from orchestrator.decide.vllm_flags import table
from orchestrator.decide.vllm_named import named, read_speculative
from tests.unit import decide_cases

STACKS = Path(__file__).parent.parent.parent / "stacks"
CASES = decide_cases.cases("vllm-args")


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_the_cases(path: Path) -> None:
    case = decide_cases.read(path)
    found = check(case.get("args", []), env=case.get("env"), rendered=case.get("rendered"))
    said = [f"{one.severity} {one.code} {one.where}" for one in found]
    assert said == case.get("expect", []), "\n".join(map(str, found))
    text = "\n".join(map(str, found))
    for words in case.get("says", []):
        assert words in text


def test_there_are_cases() -> None:
    assert CASES


@pytest.mark.parametrize("path", sorted(STACKS.glob("*/compose*.yaml")), ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_what_we_render_is_known_to_the_release(path: Path) -> None:
    for service in yaml.safe_load(path.read_text(encoding="utf-8"))["services"].values():
        if "vllm" in str(service.get("image")):
            ranks = dict(zip(service["command"], service["command"][1:], strict=False)).get("--tensor-parallel-size", "1")
            found = check(service["command"][1:], env=service["environment"], rendered={"--tensor-parallel-size": ranks})
            assert [one for one in found if one.where != "--served-model-name"] == []


def test_every_flag_of_the_release_is_accepted_under_each_of_its_spellings() -> None:
    known = table()
    assert len(known.flags) > 250
    for word, name in known.spelled.items():
        assert known.find(word).name == name
        if word.startswith("--"):
            assert known.find("--" + word[2:].replace("-", "_")).name == name


def test_no_removed_flag_is_still_there() -> None:
    assert [name for name in table().removed if table().find(name)] == []


def test_secrets_are_not_repeated() -> None:
    secret = "hf_" + "a1B2" * 8
    found = check(["--hf-token", secret, "--api-key", "hunter2"], env={"MY_TOKEN": "hunter2", "OTHER": secret})
    assert len([one for one in found if one.code == "secret"]) == 4
    assert secret not in str(found)
    assert "hunter2" not in str(found)


@pytest.mark.parametrize(
    ("rendered", "user", "joined"),
    [
        ("m --max-num-seqs 16 --dtype auto", "--max_num_seqs=32", "m --dtype auto --max_num_seqs=32"),
        ("m --enforce-eager --dtype auto", "--no-enforce-eager", "m --dtype auto --no-enforce-eager"),
        ("m --tensor-parallel-size 2", "-tp 2", "m -tp 2"),
        ("m --served-model-name a b c --dtype auto", "--served-model-name x", "m --dtype auto --served-model-name x"),
        ("m --max-model-len=8192", "", "m --max-model-len=8192"),
        ("m --gpu-memory-utilization 0.5", "--device-memory-utilization 0.6", "m --device-memory-utilization 0.6"),
        ("m --hf-overrides {}", "--hf-overrides.a 1", "m --hf-overrides {} --hf-overrides.a 1"),
        ("m --seed -1 --dtype auto", "--seed 3", "m --dtype auto --seed 3"),
    ],
)
def test_the_users_value_takes_the_rendered_ones_place(rendered: str, user: str, joined: str) -> None:
    assert merge(rendered.split(), user.split()) == joined.split()


def test_named_keys_become_flags() -> None:
    flags = named("ngram", chunked_prefill=False)
    assert check(flags) == []
    assert json.loads(flags[1])["method"] == "ngram"
    assert flags[2:] == ["--no-enable-chunked-prefill"]
    assert named() == []


@pytest.mark.parametrize(
    ("args", "read"),
    [
        ([], None),
        (["--speculative-config", '{"method":"ngram","num_speculative_tokens":3}'], {"method": "ngram", "num_speculative_tokens": 3}),
        (["-sc", '{"model":"a/b"}'], {"model": "a/b"}),
        (["--speculative-config.method", "ngram", "--speculative-config.num_speculative_tokens", "3"], {"method": "ngram", "num_speculative_tokens": 3}),
        (["--speculative-config", "no JSON"], None),
        (["--speculative-config", "[1]"], None),
        (["--speculative-config"], None),
    ],
)
def test_a_users_own_speculation_is_read_in_both_forms(args: list[str], read: object) -> None:
    assert read_speculative(args) == read
