"""Whether a machine is ready: every thing that `doctor` looks at, when it is right, wrong, and not seen."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator.commands.composefile import card
from orchestrator.decide import hubfact
from orchestrator.decide.hubfact import HubFact
from orchestrator.decide.preflight import Probes, blocking, check, driver_cuda, failed, image_cuda
from orchestrator.errors import UsageError
from orchestrator.facts import DockerFacts, Facts, Gpu, Host, OllamaFacts
from orchestrator.spec import load_spec
from tests.unit import decide_cases

GIB = 2**30
STACKS = Path(__file__).parent.parent.parent / "stacks"
SPEC = load_spec(STACKS / "llama3-1-8b-24gb" / "migrate.yaml")
FACTS = Facts(
    OllamaFacts("http://127.0.0.1:11434", "0.32.6"),
    gpus=(Gpu("0", "GPU-0", "RTX 4090", 24 * GIB, 23 * GIB, 8.9),),
    docker=DockerFacts("27.3.1", "2.29.7"), driver="580.65", cuda="13.0",
    host=Host("Linux", "x86_64", ram=64 * GIB, shm=32 * GIB, open_files=65536),
)  # fmt: skip
PROBES = Probes(
    runtimes=("nvidia", "runc"), docker_root="/var/lib/docker", disk_free={"/var/lib/docker": 200 * GIB},
    gpu_container="", ports={SPEC.gateway.port: "container ollama", SPEC.gateway.control_port: ""}, token=True,
)  # fmt: skip


def status(name: str, facts: Facts = FACTS, probes: Probes = PROBES, spec=SPEC) -> set[str]:
    return {one.status for one in check(facts, spec, probes) if one.name == name}


def test_a_machine_that_is_ready() -> None:
    results = check(FACTS, SPEC, PROBES)
    assert {one.status for one in results} == {"ok"}, results
    assert not failed(results)


@pytest.mark.parametrize(
    ("name", "facts", "probes", "wanted"),
    [
        ("Docker", replace(FACTS, docker=DockerFacts("20.10.24", "2.29.7")), PROBES, "warn"),
        ("Docker", replace(FACTS, docker=DockerFacts("", "", problem="it does not answer")), PROBES, "fail"),
        ("Docker", replace(FACTS, docker=None), PROBES, "not checked"),
        ("Compose", replace(FACTS, docker=DockerFacts("27.3.1", "", problem="no compose")), PROBES, "fail"),
        ("Compose", replace(FACTS, docker=DockerFacts("27.3.1", "1.29.2")), PROBES, "fail"),
        ("nvidia runtime", FACTS, replace(PROBES, runtimes=("runc",), gpu_container=None), "fail"),
        ("nvidia runtime", FACTS, replace(PROBES, runtimes=("runc",)), "ok"),
        ("nvidia runtime", FACTS, replace(PROBES, runtimes=("runc",), gpu_container=None, hook=True), "ok"),
        ("nvidia runtime", FACTS, replace(PROBES, runtimes=("runc",), cdi=True), "ok"),
        ("nvidia runtime", FACTS, replace(PROBES, runtimes=None), "not checked"),
        ("GPU in a container", FACTS, replace(PROBES, gpu_container="could not select device driver"), "fail"),
        ("GPU in a container", FACTS, replace(PROBES, gpu_container=None), "not checked"),
        ("GPU", replace(FACTS, gpus=(), gpu_problem="no driver"), PROBES, "fail"),
        ("driver", replace(FACTS, driver="575.57", cuda="12.9"), PROBES, "fail"),
        ("driver", replace(FACTS, driver="575.57", cuda=""), PROBES, "fail"),
        ("driver", replace(FACTS, driver="", cuda=""), PROBES, "not checked"),
        ("engine llama3-1-8b", replace(FACTS, gpus=(replace(FACTS.gpus[0], compute_capability=7.0),)), PROBES, "fail"),
        ("engine llama3-1-8b", replace(FACTS, gpus=(replace(FACTS.gpus[0], index="1", uuid="x"),)), PROBES, "fail"),
        ("disk", FACTS, replace(PROBES, disk_free={"/var/lib/docker": 20 * GIB}), "fail"),
        ("disk", FACTS, replace(PROBES, disk_free={"/var/lib/docker": 20 * GIB}, images_here=(SPEC.images.vllm,)), "ok"),
        ("disk", FACTS, replace(PROBES, docker_root=""), "not checked"),
        ("RAM", replace(FACTS, host=replace(FACTS.host, ram=4 * GIB)), PROBES, "warn"),
        ("RAM", replace(FACTS, host=Host("Linux")), PROBES, "not checked"),
        (f"port {SPEC.gateway.port}", FACTS, replace(PROBES, ports={SPEC.gateway.port: "nginx"}), "fail"),
        (f"port {SPEC.gateway.port}", FACTS, replace(PROBES, ports={}), "not checked"),
        (f"port {SPEC.gateway.control_port}", FACTS, replace(PROBES, ports={SPEC.gateway.control_port: "ollama"}), "fail"),
        ("open files", replace(FACTS, host=replace(FACTS.host, open_files=256)), PROBES, "warn"),
        ("system", replace(FACTS, host=replace(FACTS.host, wsl=True)), PROBES, "warn"),
        ("system", replace(FACTS, host=Host("Darwin", "arm64")), PROBES, "fail"),
    ],
)  # fmt: skip
def test_each_thing(name: str, facts: Facts, probes: Probes, wanted: str) -> None:
    assert status(name, facts, probes) == {wanted}
    assert all(one.fix for one in check(facts, SPEC, probes) if one.status in ("warn", "fail"))


def test_a_gated_model_wants_a_token() -> None:
    name, engine = next(iter(SPEC.engines.items()))
    gated = SPEC.model_copy(update={"engines": {name: engine.model_copy(update={"gated": True})}})
    assert status("token", spec=SPEC) == set()
    assert status("token", spec=gated) == {"warn"}
    assert status("token", probes=replace(PROBES, token=False), spec=gated) == {"fail"}
    assert status("token", probes=replace(PROBES, token=None), spec=gated) == {"not checked"}


NAME = next(iter(SPEC.engines))
REPO = SPEC.engines[NAME].repo
NO_DOCKER = DockerFacts("", "", problem="it does not answer")
OLD_GPU = replace(FACTS, gpus=(replace(FACTS.gpus[0], compute_capability=7.0),))
ROOT = "/var/lib/docker"


def hub(state: str, weights: int | None = None) -> Probes:
    return replace(PROBES, hub={REPO: HubFact(REPO, state, f"said {state}", weights=weights)})


@pytest.mark.parametrize(
    ("state", "name", "wanted"),
    [
        (hubfact.OPEN, "repository", "ok"),
        (hubfact.ACCEPTED, "token", "ok"),
        (hubfact.GATED, "token", "fail"),
        (hubfact.REFUSED, "token", "fail"),
        (hubfact.MISSING, "repository", "fail"),
        (hubfact.UNCHECKED, "repository", "not checked"),
    ],
)
def test_what_the_hub_said_of_a_repository(state: str, name: str, wanted: str) -> None:
    found = [one for one in check(FACTS, SPEC, hub(state)) if one.name == name]
    assert [(one.status, one.blocks) for one in found] == [(wanted, wanted == "fail")]
    assert all(one.fix for one in found if one.status == "fail")


@pytest.mark.parametrize(
    ("facts", "probes", "names"),
    [
        (FACTS, PROBES, []),
        (replace(FACTS, docker=NO_DOCKER), PROBES, ["Docker"]),
        (replace(FACTS, docker=DockerFacts("27.3.1", "")), PROBES, ["Compose"]),
        (replace(FACTS, docker=DockerFacts("20.10.24", "2.29.7")), PROBES, []),
        (FACTS, replace(PROBES, runtimes=("runc",), gpu_container=None), ["nvidia runtime"]),
        (FACTS, replace(PROBES, runtimes=("runc",), gpu_container='could not select device driver "" with capabilities'),
         ["nvidia runtime", "GPU in a container"]),
        (FACTS, replace(PROBES, gpu_container="Failed to initialize NVML: Unknown Error"), []),
        (FACTS, replace(PROBES, gpu_container='exec: "nvidia-smi": executable file not found in $PATH'), []),
        (FACTS, replace(PROBES, gpu_container="nvidia-container-cli: requirement error: unsatisfied condition: cuda>=13.0"),
         ["GPU in a container"]),
        (replace(FACTS, gpus=(), gpu_problem="no library"), PROBES, []),        # NVML may not be where this runs
        (replace(FACTS, gpus=(replace(FACTS.gpus[0], index="1", uuid="x"),)), PROBES, [f"engine {NAME}"]),
        (OLD_GPU, PROBES, [f"engine {NAME}"]),
        (replace(FACTS, gpus=(replace(FACTS.gpus[0], compute_capability=0.0),)), PROBES, []),
        (replace(FACTS, driver="575.57", cuda="12.9"), PROBES, []),             # compatibility libraries may do
        (FACTS, replace(PROBES, disk_free={ROOT: 4 * GIB}), ["disk"]),
        (FACTS, replace(PROBES, disk_free={ROOT: 35 * GIB}), []),               # an estimate says no: not certain
        (FACTS, replace(PROBES, disk_free={ROOT: 4 * GIB}, images_here=(SPEC.images.vllm,), weights_here={NAME: None}), []),
        (FACTS, replace(PROBES, disk_free={ROOT: 4 * GIB}, images_here=(SPEC.images.vllm,), weights_here={NAME: 99 * GIB}), []),
        (FACTS, replace(PROBES, ports={SPEC.gateway.port: "nginx", SPEC.gateway.control_port: "sshd (pid 1)"}),
         [f"port {SPEC.gateway.control_port}"]),
        (replace(FACTS, host=replace(FACTS.host, ram=GIB, shm=1, open_files=1)), PROBES, []),
    ],
)  # fmt: skip
def test_only_what_is_certain_blocks(facts: Facts, probes: Probes, names: list[str]) -> None:
    found = blocking(check(facts, SPEC, probes))
    assert [one.name for one in found] == names
    assert all(one.fix and one.status == "fail" for one in found)


@pytest.mark.parametrize("holder", ["", "container ollama", f"container migrate-{SPEC.name}-gateway-1"])
def test_a_port_of_our_own_or_of_the_ollama_to_be_taken_over_is_right(holder: str) -> None:
    assert status(f"port {SPEC.gateway.port}", probes=replace(PROBES, ports={SPEC.gateway.port: holder})) == {"ok"}


def test_the_gateway_of_another_stack_is_a_stranger() -> None:
    other = replace(PROBES, ports={SPEC.gateway.control_port: f"container migrate-{SPEC.name}2-gateway-1"})
    assert status(f"port {SPEC.gateway.control_port}", probes=other) == {"fail"}


def test_weights_and_images_are_judged_where_each_will_lie() -> None:
    apart = replace(PROBES, weights_at={NAME: "/data"}, disk_free={ROOT: 200 * GIB, "/data": GIB}, disk_device={ROOT: 1, "/data": 2})
    found = [one for one in check(FACTS, SPEC, apart) if one.name == "disk"]
    assert [(one.status, "/data" in one.text) for one in found] == [("ok", False), ("fail", True)]
    assert found[1].blocks
    together = replace(apart, disk_free={ROOT: 200 * GIB, "/data": 200 * GIB}, disk_device={ROOT: 1, "/data": 1})
    assert [one.status for one in check(FACTS, SPEC, together) if one.name == "disk"] == ["ok"]
    unseen = replace(apart, disk_free={ROOT: 200 * GIB})
    assert [one.status for one in check(FACTS, SPEC, unseen) if one.name == "disk"] == ["ok", "not checked"]


def test_the_hub_knows_sizes_that_the_catalogue_does_not() -> None:
    odd = SPEC.model_copy(update={"engines": {NAME: SPEC.engines[NAME].model_copy(update={"repo": "acme/odd-model"})}})
    assert {one.status for one in check(FACTS, odd, PROBES) if one.name == "disk"} == {"ok", "not checked"}
    told = replace(PROBES, hub={"acme/odd-model": HubFact("acme/odd-model", hubfact.OPEN, "open", weights=900 * GIB)})
    (disk,) = [one for one in check(FACTS, odd, told) if one.name == "disk"]
    assert (disk.status, disk.blocks) == ("fail", True)


def test_the_cpu_build_needs_less_room_and_a_strange_image_blocks_nothing() -> None:
    spec = load_spec(STACKS / "demo-cpu" / "migrate.yaml")
    some = replace(PROBES, disk_free={ROOT: 15 * GIB})
    assert {one.status for one in check(FACTS, spec, some) if one.name == "disk"} <= {"ok", "not checked"}
    strange = SPEC.model_copy(update={"images": SPEC.images.model_copy(update={"vllm": "acme/stand-in:1"})})
    assert blocking(check(FACTS, strange, replace(hub(hubfact.GATED), disk_free={ROOT: GIB}))) == []


def test_a_format_that_the_gpu_lacks() -> None:
    name, engine = next(iter(SPEC.engines.items()))
    fp8 = engine.model_copy(update={"repo": "RedHatAI/Meta-Llama-3.1-8B-Instruct-FP8"})
    spec = SPEC.model_copy(update={"engines": {name: fp8}})
    turing = replace(FACTS, gpus=(replace(FACTS.gpus[0], compute_capability=7.5),))
    found = [one for one in check(turing, spec, PROBES) if one.name == f"engine {name}"]
    assert [one.status for one in found] == ["fail"]
    assert "AWQ" in found[0].fix


def test_two_ranks_need_shared_memory() -> None:
    spec = load_spec(STACKS / "llama3-3-70b-tp2" / "migrate.yaml")
    small = replace(FACTS, host=replace(FACTS.host, shm=64 * 2**20))
    assert status("shared memory", spec=spec) == {"ok"}
    assert status("shared memory", small, spec=spec) == {"warn"}


def test_the_cpu_build_needs_no_gpu() -> None:
    spec = load_spec(STACKS / "demo-cpu" / "migrate.yaml")
    names = {one.name for one in check(replace(FACTS, gpus=()), spec, PROBES)}
    assert not names & {"GPU", "driver", "nvidia runtime", "GPU in a container"}


def test_nothing_known_is_no_pass() -> None:
    results = check(Facts(OllamaFacts("", "")))
    assert {one.status for one in results if one.name != "GPU"} == {"not checked"}


@pytest.mark.parametrize(
    ("image", "cuda"),
    [("vllm/vllm-openai:v0.30.0", "13.0"), ("vllm/vllm-openai:v0.30.0-cu129", "12.9"), ("vllm/vllm-openai:v0.22.0-cu129-ubuntu2404", "12.9"),
     ("vllm/vllm-openai:v0.10.2", "12.8"), ("vllm/vllm-openai", "13.0"), ("vllm/vllm-openai:v0.19.0-cu130", "13.0"), ("my.registry:5000/own:v1", ""), ("my.registry:5000/own", ""),
     ("vllm/vllm-openai-cpu:v0.30.0", ""), ("vllm/vllm-openai-rocm:v0.30.0", "")],
)  # fmt: skip
def test_the_cuda_of_an_image_stands_in_its_tag(image: str, cuda: str) -> None:
    assert image_cuda(image) == cuda


def test_a_driver_tells_its_cuda_by_its_branch() -> None:
    assert [driver_cuda(replace(FACTS, cuda="", driver=one)) for one in ("581.1", "576", "550.54.15", "390", "", "x")] == [
        "13.0", "12.9", "12.4", "", "", ""]  # fmt: skip
    assert driver_cuda(replace(FACTS, cuda="12.4", driver="580")) == "12.4"


def test_cards_are_read() -> None:
    assert card("24GiB,cc8.9") == card("24 GB, cc8.9")
    assert (card("2x80GiB").total, card("2x80GiB").count, card("24").capability) == (80 * GIB, 2, 0)
    for wrong in ("", "x", "cc8.9", "0GiB", "24GiB;cc8"):
        with pytest.raises(UsageError):
            card(wrong)


class Spoken:
    """Stands in for the console: keeps the answer."""

    def answer(self, text: str, data: dict) -> None:
        self.text, self.data = text, json.loads(json.dumps(data))


def test_the_command_reads_a_file_its_env_and_what_it_mounts(tmp_path: Path) -> None:
    from orchestrator.commands.doctor import doctor

    case = decide_cases.read(Path(__file__).parent.parent / "cases" / "compose" / "litellm-mounted.yaml")
    (tmp_path / "compose.yaml").write_text(case["compose"].replace("v0.30.0", "${TAG}"), encoding="utf-8")
    (tmp_path / "litellm.yaml").write_text(case["others"]["./litellm.yaml"], encoding="utf-8")
    (tmp_path / ".env").write_text("# tags\nexport TAG='latest'\nHF_TOKEN=x\n", encoding="utf-8")
    console = Spoken()
    assert doctor(console, None, compose=(str(tmp_path / "compose.yaml"),)) == 3
    assert {one["code"] for one in console.data["findings"]} == {"no-v1", "latest"}
    assert "--gpu 24GiB" in console.text
    (tmp_path / "litellm.yaml").unlink()
    assert doctor(console, None, compose=(str(tmp_path / "compose.yaml"),), gpu="24GiB,cc8.9") == 0
    over = tmp_path / "over.yaml"
    over.write_text("services:\n  litellm:\n    enviroment: {A: b}\n", encoding="utf-8")
    assert doctor(console, None, compose=(str(tmp_path / "compose.yaml"), str(over)), gpu="24GiB,cc8.9") == 3
    (mistyped,) = [one for one in console.data["findings"] if one["code"] == "unknown-key"]
    assert (mistyped["file"], mistyped["line"]) == (str(over), 3)
    assert "over.yaml:3" in console.text
    assert {one["file"] for one in console.data["findings"]} == {str(over), str(tmp_path / "compose.yaml")}
    top = tmp_path / "top.yaml"
    top.write_text("include: [over.yaml, {path: compose.yaml}, gone.yaml, top.yaml]\nservices: {a: {image: 'x:1'}}\n")
    assert doctor(console, None, compose=(str(top),), gpu="24GiB,cc8.9") == 3
    (mistyped,) = [one for one in console.data["findings"] if one["code"] == "unknown-key"]
    assert (mistyped["file"], mistyped["line"]) == (str(over), 3)
    with pytest.raises(UsageError):
        doctor(console, None, compose=(str(tmp_path / "nothing.yaml"),))
    with pytest.raises(UsageError):
        doctor(console, None, gpu="24GiB")
