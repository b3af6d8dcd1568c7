"""The machine as files show it, the front of Ollama, and what is kept of a Modelfile."""

from __future__ import annotations

import json
import re
from dataclasses import asdict

import httpx
import pytest

from orchestrator.clients import gpu
from orchestrator.clients.ollama import Guarded, Ollama
from orchestrator.decide.verdict.hardware import hardware
from orchestrator.errors import MigrateError
from orchestrator.facts import DockerFacts, Facts, Gpu, Host, OllamaFacts
from orchestrator.observe import host, world
from orchestrator.observe import ollama as look
from orchestrator.workspace import thaw

DIRECTIVES = "FROM /blobs/sha256-aa\nPARSER qwen3"


def put(root, **files):
    for name, text in files.items():
        path = root / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def card(root, name, **files):
    put(root, **{f"sys__class__drm__{name}__device__{key}": text for key, text in files.items()})


def test_memory_and_wsl_from_proc(tmp_path):
    put(tmp_path, proc__meminfo="MemTotal:  2048 kB\nMemFree: 1 kB\nMemAvailable: 1024 kB\n",
        proc__version="Linux version 5.15.1-Microsoft-standard-WSL2")
    seen = host.look([str(tmp_path), "/no/such/path", "a\0b"], str(tmp_path))
    assert (seen.ram, seen.ram_free, seen.wsl, seen.shm) == (2 << 20, 1 << 20, True, None)
    assert list(seen.disk_free) == [str(tmp_path)]
    assert thaw(Host, json.loads(json.dumps(asdict(seen)))) == seen


@pytest.mark.parametrize("text", ["", "MemTotal: lots kB\n", "\0\0", "MemTotal:\n"])
def test_unreadable_memory_is_unknown(tmp_path, text):
    put(tmp_path, proc__meminfo=text)
    seen = host.look(root=str(tmp_path))
    assert (seen.ram, seen.ram_free, seen.wsl) == (None, None, False)


@pytest.mark.parametrize(("files", "wsl"), [
    ({"proc__version": "Linux version 5.15.167.4-microsoft-standard-WSL2 (root@f9c826d3017f) (gcc 11.2.0)"}, True),
    ({"proc__version": "Linux version 4.4.0-19041-Microsoft (Microsoft@Microsoft.com)"}, True),
    ({"proc__version": "Linux version 6.9.1-mine (me@box)", "proc__sys__fs__binfmt_misc__WSLInterop": "enabled"}, True),
    ({"proc__version": "Linux version 6.9.1-mine", "dev__dxg": "", "usr__lib__wsl__lib__libcuda.so": ""}, True),
    # Azure's kernels are built by Microsoft and are no WSL; /dev/dxg alone is any Hyper-V guest with a GPU.
    ({"proc__version": "Linux version 6.6.57.1-7.azl3 (builder@microsoft.com) (gcc)", "dev__dxg": ""}, False),
    ({"proc__version": "Linux version 5.15.0-1052-azure (buildd@lcy02)"}, False),
    ({"proc__version": ""}, False), ({}, False),
])
def test_wsl_by_the_kernel_or_what_it_mounts(tmp_path, files, wsl):
    put(tmp_path, **files)
    assert host.look(root=str(tmp_path)).wsl is wsl


MEMORY = "MemTotal: 64000000 kB\nMemAvailable: 32000000 kB\n"
KIB = 1024


@pytest.mark.parametrize(("files", "ram", "free"), [
    ({}, 64000000 * KIB, 32000000 * KIB),
    # version 2, in a container's own namespace; page cache that nobody uses counts as free
    ({"sys__fs__cgroup__memory.max": "1000000\n", "sys__fs__cgroup__memory.current": "700000\n",
      "sys__fs__cgroup__memory.stat": "anon 1\ninactive_file 200000\n"}, 1000000, 500000),
    ({"sys__fs__cgroup__memory.max": "max\n", "sys__fs__cgroup__memory.current": "1\n"}, 64000000 * KIB, 32000000 * KIB),
    # version 1
    ({"sys__fs__cgroup__memory__memory.limit_in_bytes": "2000000", "sys__fs__cgroup__memory__memory.usage_in_bytes":
      "500000", "sys__fs__cgroup__memory__memory.stat": "inactive_file 9\ntotal_inactive_file 100000\n"}, 2000000, 1600000),
    ({"sys__fs__cgroup__memory__memory.limit_in_bytes": "9223372036854771712"}, 64000000 * KIB, 32000000 * KIB),
    # a limit above the machine's memory limits nothing, and the machine has less free than the group
    ({"sys__fs__cgroup__memory.max": "99000000000000\n", "sys__fs__cgroup__memory.current": "0"},
     64000000 * KIB, 32000000 * KIB),
    # a container that sees the groups of the host: the tightest of its path
    ({".dockerenv": "", "proc__self__cgroup": "0::/machine.slice/one.scope\n",
      "sys__fs__cgroup__machine.slice__memory.max": "3000", "sys__fs__cgroup__machine.slice__memory.current": "2500",
      "sys__fs__cgroup__machine.slice__one.scope__memory.max": "5000"}, 3000, 500),
    ({".dockerenv": "", "proc__self__cgroup": "9:cpu,cpuacct:/x\n5:memory:/docker/ab\n1:name=systemd:/docker/ab\n",
      "sys__fs__cgroup__memory__docker__ab__memory.limit_in_bytes": "4000"}, 4000, 4000),
    # not in a container: the limit of this session is none of Docker's
    ({"proc__self__cgroup": "0::/user.slice\n", "sys__fs__cgroup__user.slice__memory.max": "3000"},
     64000000 * KIB, 32000000 * KIB),
    ({"sys__fs__cgroup__memory.max": "lots", "sys__fs__cgroup__memory.current": "-1"}, 64000000 * KIB, 32000000 * KIB),
    ({".dockerenv": "", "proc__self__cgroup": "0::/../../etc\n\0::\n0\n"}, 64000000 * KIB, 32000000 * KIB),
    ({"sys__fs__cgroup__memory.max": "100", "sys__fs__cgroup__memory.current": "900"}, 100, 0),
])
def test_memory_is_what_the_control_group_leaves(tmp_path, files, ram, free):
    put(tmp_path, **{"proc__meminfo": MEMORY, **files})
    seen = host.look(root=str(tmp_path))
    assert (seen.ram, seen.ram_free) == (ram, free)
    assert seen.ram_limit == (ram if ram < 64000000 * KIB else None)


@pytest.mark.parametrize(("files", "said"), [
    ({}, ""),
    ({"proc__device-tree__model": "NVIDIA Jetson AGX Orin Developer Kit\0"}, "NVIDIA Jetson AGX Orin Developer Kit, whose"),
    ({"etc__nv_tegra_release": "# R32"}, "a Jetson"),
    ({"proc__driver__nvidia__version": "NVRM version"}, "--gpus all"),
    ({"sys__bus__pci__devices__0000:01:00.0__vendor": "0x10de\n", "sys__bus__pci__devices__0000:01:00.0__class":
      "0x030000\n"}, "PCI 0000:01:00.0.*not loaded"),
    # the sound device of a card, and another maker's card
    ({"sys__bus__pci__devices__1__vendor": "0x10de", "sys__bus__pci__devices__1__class": "0x040300",
      "sys__bus__pci__devices__2__vendor": "0x8086", "sys__bus__pci__devices__2__class": "0x030000"}, ""),
])
def test_an_nvidia_gpu_that_nvml_does_not_list(tmp_path, files, said):
    put(tmp_path, **files)
    hint = host.nvidia_hint(str(tmp_path))
    assert re.search(said, hint)
    assert bool(hint) == bool(said)


def test_apple_silicon_is_the_system_and_the_machine(monkeypatch, tmp_path):
    monkeypatch.setattr(host.platform, "system", lambda: "Darwin")
    monkeypatch.setattr(host.platform, "machine", lambda: "arm64")
    seen = host.look(root=str(tmp_path))
    assert (seen.system, seen.machine, seen.wsl, seen.ram) == ("Darwin", "arm64", False, None)
    reasons, _ = hardware(Facts(OllamaFacts("http://localhost:11434", "0.1"), gpu_problem="no driver", host=seen))
    assert reasons[0].points == "cannot"
    assert "MLX" in reasons[0].text


class Unused:
    """A Docker that does not run."""

    def require(self):
        raise MigrateError("Docker is not here")

    def version(self):
        return None


def test_the_machine_without_an_ollama(monkeypatch):
    spark = Gpu("0", "GPU-a", "NVIDIA GB10", 0, 0, 12.1, unified=True)
    seen = gpu.GpuLook((spark,), "580.95", cuda="13.0", notes=("it shares the host's",))
    monkeypatch.setattr(world.gpu, "look", lambda: seen)
    monkeypatch.setattr(world.host_look, "look", lambda paths: Host(ram=128 << 30, ram_free=100 << 30))
    found = world.machine(Unused())
    assert [(one.total, one.free, one.unified) for one in found.gpus] == [(128 << 30, 100 << 30, True)]
    assert (found.driver, found.cuda, found.gpu_notes) == ("580.95", "13.0", ("it shares the host's",))
    assert thaw(Facts, json.loads(json.dumps(asdict(found)))) == found


def test_disk_is_looked_at_where_docker_keeps_its_data(monkeypatch):
    asked = []
    monkeypatch.setattr(world, "info", lambda: asked.append(1) or {"DockerRootDir": "/data/docker"})
    monkeypatch.delenv("DOCKER_HOST", raising=False)
    assert world._disks(DockerFacts("28", "2")) == ("/", "/data/docker")
    monkeypatch.setenv("DOCKER_HOST", "ssh://there")
    assert world._disks(DockerFacts("28", "2")) == ("/", "/var/lib/docker")
    assert world._disks(DockerFacts("", "", problem="no")) == ("/", "/var/lib/docker")
    assert asked == [1]


def test_amd_gpus_from_sysfs(tmp_path):
    card(tmp_path, "card10", vendor="0x1002\n", mem_info_vram_total="100\n", mem_info_vram_used="400")
    card(tmp_path, "card2", vendor="0x1002\n", mem_info_vram_total="1000\n", mem_info_vram_used="400\n",
         product_name="Radeon")
    card(tmp_path, "card2-DP-1", vendor="0x1002\n", mem_info_vram_total="1000")
    card(tmp_path, "card0", vendor="0x8086\n", mem_info_vram_total="1000")
    card(tmp_path, "card1", vendor="0x1002\n", mem_info_vram_total="much")
    first, second = host.amd_gpus(str(tmp_path))
    assert (first.index, first.name, first.total, first.free, first.vendor) == ("amd0", "Radeon", 1000, 600, "amd")
    assert (second.total, second.free, second.compute_capability) == (100, 0, 0.0)
    reasons, _ = hardware(Facts(OllamaFacts("http://localhost:11434", "0.1"), (first,)))
    assert "AMD GPU (Radeon)" in reasons[0].text
    card(tmp_path, "card3", vendor="0x10de\n")
    assert host.amd_gpus(str(tmp_path)) == ()


def test_door_for_compute_alone_is_an_amd_gpu(tmp_path):
    assert host.amd_gpus(str(tmp_path)) == ()
    put(tmp_path, dev__kfd="")
    assert [one.vendor for one in host.amd_gpus(str(tmp_path))] == ["amd"]


def test_directives_without_text_that_looks_like_them():
    text = (
        '# Modelfile generated by "ollama show"\n# FROM bot:latest\n\nFROM /blobs/sha256-aa\r\nFROM /blobs/sha256-bb\n'
        'adapter ./lora.gguf\nTEMPLATE """{{ .System }}\nFROM nowhere\nPARSER fake\n"""\nRENDERER qwen3-coder\n'
        'SYSTEM "Say\nADAPTER none\n"\nPARSER qwen3\nPARAMETER stop "\nFROM stop"\nMESSAGE user "\nFROM me\n"\n'
        'LICENSE """MIT\nFROM us'
    )
    kept = look.directives(text).splitlines()
    assert kept == ["FROM /blobs/sha256-aa", "FROM /blobs/sha256-bb", "adapter ./lora.gguf", "RENDERER qwen3-coder",
                    "PARSER qwen3"]
    assert look.directives("") == look.directives("FROM \nFROM\n") == ""


def answering(status=200, headers=None, body=None):
    answer = httpx.Response(status, headers=headers or {}, json={"version": "0.1"} if body is None else body)
    return Ollama("http://front.test", httpx.MockTransport(lambda _: answer))


@pytest.mark.parametrize(("status", "headers"), [
    (401, {"WWW-Authenticate": "Basic", "Server": "nginx/1.27"}), (407, {}), (403, {"server": "cloudflare"}),
    (302, {"WWW-Authenticate": "Bearer"}), (401, {}),
])
def test_authentication_in_front_is_named(status, headers):
    with answering(status, headers) as ollama, pytest.raises(Guarded, match=str(status)) as refusal:
        ollama.version()
    assert all(value in refusal.value.evidence for value in headers.values())
    assert "--ollama" in refusal.value.hint
    assert "--facts" in refusal.value.hint


def test_another_failure_is_not_authentication():
    with answering(500, {"Server": "nginx"}) as ollama, pytest.raises(MigrateError) as failure:
        ollama.version()
    assert not isinstance(failure.value, Guarded)


@pytest.mark.parametrize(("headers", "front"), [
    ({}, ""), ({"Server": "uvicorn"}, ""), ({"Server": "NGINX/1.2"}, "nginx"), ({"Via": "1.1 Caddy"}, "caddy"),
])
def test_front_from_headers(headers, front):
    with answering(headers=headers) as ollama:
        assert ollama.version() == "0.1"
        assert ollama.front == front


class Empty:
    """A Docker without containers."""

    def ollamas(self):
        return []


def test_a_guarded_default_address_is_not_called_absent(monkeypatch):
    monkeypatch.setattr(look, "Ollama", lambda _: answering(401, {"Server": "nginx"}))
    with pytest.raises(Guarded, match="401"):
        world._find(None, Empty(), usable=True)
    assert look.proxy("http://front.test") == ""


def test_a_look_keeps_directives_and_names_the_front(monkeypatch):
    said = {
        "/api/version": {"version": "0.1"}, "/api/ps": {},
        "/api/tags": {"models": [{"name": "bot", "details": {"family": "qwen3"}}]},
        "/api/show": {"modelfile": f"{DIRECTIVES}\nSYSTEM secret", "system": "secret"},
    }

    def server(request):
        return httpx.Response(200, headers={"Server": "nginx"}, json=said[request.url.path])

    monkeypatch.setattr(look, "Ollama", lambda url: Ollama(url, httpx.MockTransport(server)))
    seen = look.look("http://front.test")
    assert seen.models[0].details == {"family": "qwen3", "modelfile": DIRECTIVES}
    assert thaw(OllamaFacts, json.loads(json.dumps(asdict(seen)))) == seen
    assert look.proxy("http://front.test").startswith("nginx answers at http://front.test")
