"""Hand-written Compose files: each error is named where it stands, and nothing else is."""

from __future__ import annotations

import random
import re
import string
from pathlib import Path

import pytest

from orchestrator.decide.composecheck import Card, check
from orchestrator.decide.composecheck.document import read, scalar
from orchestrator.decide.composecheck.project import project
from orchestrator.decide.composecheck.service import release
from orchestrator.decide.composecheck.words import fill
from tests.unit import decide_cases

STACKS = sorted((Path(__file__).parent.parent.parent / "stacks").glob("*/compose.yaml"))
CASES = decide_cases.cases("compose")


def card(text: str | None) -> Card | None:
    if text is None:
        return None
    size, capability = re.fullmatch(r"(\d+)GiB cc([\d.]+)", text).groups()
    return Card(int(size) * 2**30, float(capability))


def said(findings, text: str, others: dict[str, str]) -> list[str]:
    def line_of(one) -> str:
        lines = others.get(one.where, text).splitlines()
        return lines[one.line - 1] if one.line <= len(lines) else ""

    return [(f"{one.severity} {one.code} {one.where}", line_of(one)) for one in findings]


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_the_cases(path: Path) -> None:
    case = decide_cases.read(path)
    others = case.get("others", {})
    findings = check(case["compose"], card=card(case.get("gpu")), env=case.get("env"), others=others)
    told = "\n".join(map(str, findings))
    left = said(findings, case["compose"], others)
    for wanted in case["expect"]:
        words, _, on_line = wanted.partition(" | ")
        match = next((one for one in left if one[0] == words and on_line in one[1]), None)
        assert match is not None, f"{wanted!r} is missing from:\n{told}"
        left.remove(match)
    assert left == [], told
    for words in case.get("says", []):
        assert words in told
    assert all(one.fix for one in findings)


def over(*texts: str, **more) -> list[str]:
    return [f"{one.severity} {one.code} {one.where}" for one in check("\n---\n".join(texts), **more)]


BASE = """\
services:
  vllm:
    image: vllm/vllm-openai:v0.30.0
    command: [Qwen/Qwen3-8B, --max-model-len, "8192", --shutdown-timeout, "60"]
    stop_grace_period: 90s
    deploy: &gpu {resources: {reservations: {devices: [{driver: nvidia, device_ids: ["0"], capabilities: [gpu]}]}}}
    environment: [A=1, "HF_TOKEN=${HF_TOKEN}"]
    ports: ["127.0.0.1:8000:8000"]
    volumes: ["hf:/root/.cache/huggingface"]
    restart: always
  ollama:
    image: ollama/ollama:0.32.6
    deploy: *gpu
    volumes: ["ollama:/root/.ollama"]
    restart: always
    profiles: [dev]
volumes: {hf: , ollama: }
"""


@pytest.mark.parametrize(
    ("later", "wanted"),
    [
        ("services: {ollama: {environment: {OLLAMA_NUM_PARALLEL: '2'}}}", []),
        ("services: {vllm: {environment: {A: true}}}", ["advice env-boolean vllm"]),                # merged by name
        ("services: {vllm: {ports: ['127.0.0.1:9000:9000']}}", ["error port-inside vllm"]),       # ports are added
        ("services: {vllm: {ports: !override ['127.0.0.1:9000:8000']}}", []),
        ("services: {vllm: {volumes: ['./other:/root/.cache/huggingface']}}", []),                # a mount replaces
        ("services: {vllm: {volumes: !reset null}}", ["warning no-weights-volume vllm"]),
        ("services: {vllm: {command: [Qwen/Qwen3-8B, --max-model-len, '8192', --no-such-flag, --shutdown-timeout, '9']}}",
         ["error unknown vllm"]),                                                                  # words are replaced
        ("services: {vllm: {deploy: {resources: {limits: {memory: 1g}}}}}", ["warning memory-limit vllm"]),
        ("services: {new: {image: 'acme/app:1', depends_on: [nobody]}}", ["error depends-unknown new"]),
        ("", []), ("---", []), ("volumes: {more: }", []),
    ],
)  # fmt: skip
def test_a_later_file_is_laid_over(later: str, wanted: list[str]) -> None:
    extra = ["error utilization-default vllm"]      # Ollama's profile may run beside
    assert sorted(over(BASE, later)) == sorted([*extra, *wanted])
    assert over(BASE) == extra


def test_an_anchor_is_not_changed_by_what_is_laid_over_one_of_its_users() -> None:
    later = 'services: {ollama: {deploy: {resources: {reservations: {devices: !override [{driver: nvidia, device_ids: ["1"], capabilities: [gpu]}]}}}}}'
    assert over(BASE, later) == []
    assert over(BASE) == ["error utilization-default vllm"]


@pytest.mark.parametrize(
    ("image", "words", "kind"),
    [
        ("ollama/ollama:0.32.6", "", "ollama"), ("registry.local:5000/ollama/ollama:1", "", "ollama"), ("ollama", "", "ollama"),
        ("ollama/ollama:1", "pull llama3", "other"), ("ollama/ollama:1", "serve", "ollama"), ("acme/ollama-exporter:1", "", "other"),
        ("vllm/vllm-openai:v0.30.0", "", "vllm"), ("mirror.local/x/vllm-openai-cpu:1", "", "vllm"), ("rocm/vllm:1", "", "vllm"),
        ("acme/vllm-router:1", "", "other"), ("vllm/production-stack-router:1", "", "other"), ("acme/standin-vllm:1", "", "vllm"),
        ("ghcr.io/berriai/litellm:main", "", "litellm"), ("ghcr.io/berriai/litellm-database:main", "", "other"),
        ("ghcr.io/open-webui/open-webui:ollama", "", "other"), ("python:3", "vllm serve x", "vllm"), ("python:3", "", "other"),
    ],
)  # fmt: skip
def test_what_a_service_is(image: str, words: str, kind: str) -> None:
    raw, _ = read(f"services: {{a: {{image: '{image}', command: '{words}'}}}}")
    assert [one.kind for one in project(raw, "", {}, None).services] == [kind]


def test_there_are_enough_cases() -> None:
    assert CASES


@pytest.mark.parametrize("path", STACKS, ids=lambda path: path.parent.name)
def test_our_own_stacks_are_clean(path: Path) -> None:
    assert [str(one) for one in check(path.read_text(encoding="utf-8"))] == []


@pytest.mark.parametrize("path", [STACKS[0], *(one for one in CASES if one.stem == "good")], ids=lambda path: path.stem)
def test_no_mangled_file_raises(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    lines = text.splitlines()
    for at in range(len(lines)):
        for mangled in (lines[:at], lines[:at] + lines[at + 1 :], [*lines[:at], lines[at].strip(), *lines[at + 1 :]]):
            for one in check("\n".join(mangled), card=Card(24 * 2**30, 8.9)):
                assert one.line >= 1
                assert one.fix


@pytest.mark.parametrize(
    "text",
    ["", "services:", "services: 3", "services: {a: 1}", "services: {vllm: {image: [], command: {}, ports: x, environment: 3}}",
     "services: {vllm: {image: vllm/vllm-openai, command: [null, 3, true, 'a b'], healthcheck: 4, deploy: [], volumes: {}}}",
     "a: &a [*a]", "services: &s {vllm: *s}", "services: {a: {extends: b}, b: {extends: a}}", "\x00", "%", "services:\n  a: !reset null",
     "services: {ollama: {image: ollama/ollama, environment: [3, null, {A: b}], deploy: {resources: {reservations: {devices: [1, {count: x}]}}}}}",
     "services: {v: {image: 'vllm/vllm-openai:v1', command: \"--a 'b\", depends_on: {v: 1}, healthcheck: {test: 3, interval: x}}}",
     "model_list: [{litellm_params: {model: openai/x, api_base: 'http://[::1'}}, {litellm_params: {model: ollama/x, api_base: 'http://['}}]",
     *(f"services: {{x: {char}}}" for char in string.punctuation)],
)  # fmt: skip
def test_odd_files_do_not_raise(text: str) -> None:
    for one in check(text, card=Card(24 * 2**30), others={"./x": text}):
        assert one.severity in ("error", "warning", "advice")


ODD = ("[]", "{}", "3", "null", "true", "[1, [2], {a: b}]", "{a: [1]}", "!reset null", "!override []", "-1", "1e999", "*x",
       '"${A:-${B}}"', "[null]", "{null: null}", '"http://[::1"', '"http://x:99999/v1"', ".nan")  # fmt: skip


@pytest.mark.parametrize("seed", range(8))
def test_no_mutation_raises(seed: int) -> None:
    chance = random.Random(seed)
    texts = [decide_cases.read(path)["compose"] for path in CASES]
    for _ in range(60):
        lines = chance.choice(texts).splitlines()
        for _ in range(chance.randint(1, 4)):
            at = chance.randrange(len(lines))
            if chance.random() < 0.3 and len(lines) > 1:
                del lines[at]
            elif ":" in lines[at]:
                lines[at] = f"{lines[at].split(':')[0]}: {chance.choice(ODD)}"
            else:
                lines.insert(at, chance.choice(lines))
        for one in check("\n".join(lines), card=Card(24 * 2**30, 8.9), others={"./x.yaml": chance.choice(texts)}):
            assert one.line >= 1
            assert one.fix
            assert one.code


def test_aliases_that_multiply_are_no_harm() -> None:
    layers = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    layers += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)]
    keys = ("image", "command", "entrypoint", "environment", "ports", "volumes", "healthcheck", "deploy", "depends_on", "gpus",
            "restart", "stop_grace_period", "runtime", "network_mode", "container_name", "extends", "shm_size", "devices")  # fmt: skip
    for name in ("vllm", "ollama"):
        for image in ("vllm/vllm-openai:v0.30.0", "ollama/ollama:0.32.6"):
            body = "".join(f"    {key}: *a11\n" for key in keys if key != "image")
            inner = "    healthcheck: {test: *a11, interval: *a11, retries: *a11}\n    deploy: {resources: *a11, replicas: *a11}\n"
            for text in (body, inner, "    deploy: {resources: {reservations: {devices: *a11}}}\n    volumes: [{target: *a11, type: volume, source: *a11}]\n"):
                found = check("\n".join(layers) + f"\nservices:\n  {name}:\n    image: {image}\n{text}", card=Card(24 * 2**30))
                assert sum(len(str(one)) for one in found) < 100_000


def test_secrets_are_not_repeated() -> None:
    secret = "hf_" + "Zz9" * 10
    text = f"services:\n  app:\n    image: a/b:1\n    environment: {{X: {secret}, DB_PASSWORD: hunter2}}\n"
    found = check(text)
    assert [one.code for one in found] == ["secret", "secret"]
    assert secret not in str(found)
    assert "hunter2" not in str(found)


@pytest.mark.parametrize(
    ("text", "filled"),
    [("${A}", "1"), ("$A", "1"), ("${B:-x}", "x"), ("${B-x}", "x"), ("${EMPTY:-x}", "x"), ("${EMPTY-x}", ""), ("${B:?no}", "${B:?no}"),
     ("$$A", "$A"), ("${A:+y}", "y"), ("${B:+y}", ""), ("${B:-${A}}", "1"), ("a${A}b", "a1b")],
)  # fmt: skip
def test_variables_are_filled_as_compose_does(text: str, filled: str) -> None:
    assert fill(text, {"A": "1", "EMPTY": ""}) == filled


@pytest.mark.parametrize(
    ("tag", "wanted"),
    [("v0.5.3.post1", (0, 5, 3, 1)), ("v0.20.0-cu129", (0, 20, 0, 0)), ("0.30", (0, 30, 0, 0)), ("latest", None), ("", None), ("v1x", None)],
)  # fmt: skip
def test_releases_are_read_from_tags(tag: str, wanted: tuple[int, ...] | None) -> None:
    assert release(tag) == wanted


def test_scalars_are_those_of_yaml_1_2() -> None:
    assert [scalar(one, quoted=False) for one in ("yes", "22:22", "010", "1.5", "~", "true")] == ["yes", "22:22", 10, 1.5, None, True]


@pytest.mark.parametrize(
    ("first", "second", "shared"),
    [
        ("gpus: all", "gpus: all", True),                                                   # each takes the first
        ("gpus: all", "deploy: {resources: {reservations: {devices: [{device_ids: ['1'], capabilities: [gpu]}]}}}", False),
        ("deploy: {resources: {reservations: {devices: [{device_ids: ['0,1'], capabilities: [gpu]}]}}}", "gpus: all", True),
        ("gpus: all\n    environment: {CUDA_VISIBLE_DEVICES: '1'}", "gpus: all", False),
        ("gpus: all\n    environment: {CUDA_VISIBLE_DEVICES: '1'}", "gpus: all\n    environment: [CUDA_VISIBLE_DEVICES=1]", True),
        ("gpus: all\n    profiles: [a]", "gpus: all\n    profiles: [b]", False),
        ("gpus: [{count: 1}]", "gpus: [{device_ids: ['0']}]", True),
        ("gpus: [{device_ids: ['GPU-aa']}]", "gpus: [{device_ids: ['GPU-bb']}]", False),
    ],
)  # fmt: skip
def test_who_shares_a_gpu(first: str, second: str, shared: bool) -> None:
    image = "image: vllm/vllm-openai:v0.30.0\n    command: [Qwen/Qwen3-8B, --gpu-memory-utilization, '0.6']"
    text = f"services:\n  a:\n    {image}\n    {first}\n  b:\n    {image}\n    {second}\n"
    assert ("shares" in {one.code for one in check(text)}) == shared
