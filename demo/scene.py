"""The machine before the migration: an Ollama container of its own that owns the port, and who talks to it."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from orchestrator.clients.docker import Docker, RunSpec
from orchestrator.clients.netfilter import Netfilter
from orchestrator.errors import MigrateError
from orchestrator.steps.swap_files import SwapFiles

MODEL = "llama3.1:8b"
ENGINE = "llama3-1-8b"
SIDECAR = "migrate/sidecar:dev"
TINY = "/models/tiny-llama"
# Two vLLMs on one small machine: bound to cores, both would take the same one.
SHARED_CPU = {"VLLM_CPU_OMP_THREADS_BIND": "nobind", "OMP_NUM_THREADS": "1"}


@dataclass
class Scene:
    """Sets the stage and clears it; `engine` is standin or vllm. Two scenes differ in `name`, `ollama` and ports."""

    engine: str
    folder: Path
    docker: Docker = field(default_factory=Docker)
    name: str = "demo"              # of the stack
    ollama: str = "ollama"          # container that owns the port before the migration
    ports: tuple[int, int] = (11434, 11480)     # wanted: Ollama's and the control door's
    extra: dict[str, Any] = field(default_factory=dict)     # laid over `defaults`, section by section
    port: int = 0
    control_port: int = 0
    users: subprocess.Popen[bytes] | None = None

    @property
    def stack(self) -> Path:
        return self.folder / "stacks" / self.name

    @property
    def project(self) -> str:
        return f"migrate-{self.name}"

    @property
    def network(self) -> str:
        return f"{self.project}-original"

    @property
    def volume(self) -> str:
        return f"{self.project}-models"

    @property
    def backend(self) -> str:
        return f"{self.project}-backend"

    @property
    def label(self) -> dict[str, str]:
        return {"org.migrate.scene": self.name}

    @property
    def environment(self) -> dict[str, str]:
        """What the commands need to work on this stack."""
        return {
            "MIGRATE_STACKS": str(self.stack.parent), "MIGRATE_STACK": self.name,
            "MIGRATE_DEFAULTS": str(self.defaults()),
        }

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def results(self) -> Path:
        return self.folder / "clients.jsonl"

    def set(self) -> None:
        """Start the original Ollama, and its weights' second engine when real vLLM is on the other side."""
        self.clear()
        self.folder.mkdir(parents=True, exist_ok=True)
        self.port, self.control_port = (free_port(wanted) for wanted in self.ports)
        self.docker.network_create(self.network, self.label)
        env = {"OLLAMA_NUM_PARALLEL": "4", "OLLAMA_KEEP_ALIVE": "-1", "STANDIN_TOKEN_MS": "8", "STANDIN_LOAD_S": "1"}
        if "vllm-cpu" in self.extra.get("images", {}).get("vllm", ""):
            env["STANDIN_TURN_END"] = "<|end|>"     # as the template of the tiny model that vLLM serves
        if self.engine == "vllm":
            self._backend()
            env["STANDIN_BACKEND"] = f"http://{self.backend}:8000"
        self.docker.run(RunSpec(
            image="migrate/standin-ollama:dev", name=self.ollama, env=env, labels=self.label,
            mounts=[(self.volume, "/root/.ollama", False)], publish=[("127.0.0.1", self.port, 11434)],
            network=self.network, aliases=["ollama"], restart="unless-stopped",
        ))
        wait_for(f"{self.url}/api/version", 60)

    def _backend(self) -> None:
        words = [TINY, "--served-model-name", MODEL, "--max-model-len", "2048", "--enforce-eager",
                 "--generation-config", "vllm"]
        self.docker.run(RunSpec(
            image="migrate/vllm-cpu:dev", name=self.backend, command=words, labels=self.label,
            network=self.network, shm_size="1g",
            mounts=[(str(models_folder()), "/models", True)],
            env={"VLLM_CPU_KVCACHE_SPACE": "1", "HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", **SHARED_CPU},
        ))
        deadline = time.monotonic() + 240
        while time.monotonic() < deadline:
            with suppress(MigrateError):
                fetch_in(self.docker, self.backend, "http://127.0.0.1:8000/health")
                return
            time.sleep(1)
        raise MigrateError("the second vLLM behind the stand-in Ollama did not start",
                           evidence="\n".join(self.docker.logs(self.backend, tail=15)))

    def defaults(self) -> Path:
        """Write what a site lays over every proposal: its images, and short waits for a demonstration."""
        images = {"gateway": "migrate/gateway:dev", "sidecar": SIDECAR}
        images["vllm"] = "migrate/standin-vllm:dev"
        engine: dict[str, Any] = {"max_model_len": 2048, "max_num_seqs": 16, "kv_cache": "1GiB"}
        if self.engine == "vllm":
            images["vllm"] = "migrate/vllm-cpu:dev"
            engine |= {"repo": TINY, "enforce_eager": True, "volumes": [f"{models_folder()}:/models:ro"],
                       "env": {"HF_HUB_OFFLINE": "1", **SHARED_CPU}}
        else:
            engine |= {"gated": False, "env": {"STANDIN_START_S": "4", "STANDIN_TOKEN_MS": "3"}}
        wanted: dict[str, Any] = {
            "accelerator": "cpu",
            "images": images,
            "gateway": {"control_port": self.control_port},
            "engines": {ENGINE: engine},
            "takeover": {"drain": "30s"},
            "parity": {"max_tokens": 16, "repeats": 1, "samples": 3, "parallel": 4},
            "load": {"requests_per_user": 2, "max_tokens": 16, **self._judged()},
            "cutover": {"bake": "5s", "min_requests": 5, "patience": "90s", "lease": "15s",
                        "thresholds": {"ttft_ratio": 20.0, "e2e_ratio": 20.0}},
        }
        for section, values in self.extra.items():
            wanted[section] = {**wanted.get(section, {}), **values}
        path = self.folder / "defaults.yaml"
        path.write_text(yaml.safe_dump(wanted, sort_keys=False), encoding="utf-8")
        return path

    def _judged(self) -> dict[str, float]:
        # The real vLLM plays both sides on the same cores: neither can be much faster than the other.
        return {"latency_factor": 20.0, "throughput_factor": 0.05} if self.engine == "vllm" else {"latency_factor": 3.0}

    def override(self) -> None:
        """Let the stack's Ollama reach the weights' second engine, as the original does."""
        if self.engine != "vllm":
            return
        text = {
            "services": {"ollama": {"networks": {"original": {}}}},
            "networks": {"original": {"external": True, "name": self.network}},
        }
        (self.stack / "compose.override.yaml").write_text(yaml.safe_dump(text), encoding="utf-8")

    def people_arrive(self, users: int, tokens: int) -> None:
        """Start the clients, and wait until the first answers have come."""
        script = Path(__file__).with_name("load.py")
        command = [sys.executable, str(script), self.url, MODEL, str(self.results),
                   "--users", str(users), "--tokens", str(tokens)]
        with (self.folder / "clients.log").open("ab") as log:
            self.users = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and len(self.answers()) < users:
            if self.users.poll() is not None:
                raise MigrateError("the clients ended", evidence=(self.folder / "clients.log").read_text()[-800:])
            time.sleep(0.2)

    def people_leave(self) -> None:
        """Let running answers end."""
        if self.users and self.users.poll() is None:
            self.users.send_signal(signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                self.users.wait(timeout=60)
            if self.users.poll() is None:
                self.users.kill()
                self.users.wait()
        self.users = None

    def answers(self) -> list[dict[str, Any]]:
        """Return what the clients have written so far."""
        if not self.results.exists():
            return []
        lines = self.results.read_text(encoding="utf-8").splitlines()
        return [json.loads(line) for line in lines if line.endswith("}")]

    def clear(self) -> None:
        """Remove everything of ours, whatever state it is in."""
        self.people_leave()
        self._stop_swap()
        for labels in ({"org.migrate.stack": self.name}, self.label):
            for container in self.docker.containers(labels=labels):
                self.docker.remove(container.id)
        for volume in (*self.docker.volumes(self.project), self.volume, f"{self.project}_gateway-swap"):
            with suppress(MigrateError):
                self.docker.volume_remove(volume)
        for network in (f"{self.project}_default", self.network):
            with suppress(MigrateError):
                self.docker.network_remove(network)

    def _stop_swap(self) -> None:
        helper = SwapFiles(self.stack).holder()
        if helper:
            with suppress(ProcessLookupError):
                os.kill(helper, signal.SIGKILL)
        left = self.docker.containers(labels={"migrate.swap": f"migrate:{self.name}"})
        for container in left:
            self.docker.remove(container.id)
        if helper or left:
            Netfilter(self.docker, SIDECAR, self.name).remove()


def models_folder() -> Path:
    """Return where the set-up keeps the small model."""
    home = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(os.environ.get("MIGRATE_CACHE") or f"{home}/migrate") / "models"


def free_port(wanted: int) -> int:
    """Return `wanted` if nobody listens there, else a free port above it."""
    for port in range(wanted, wanted + 200):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with suppress(OSError):
                probe.bind(("127.0.0.1", port))
                return port
    raise MigrateError(f"no free port above {wanted}")


def wait_for(url: str, timeout_s: float) -> None:
    """Wait until something answers 200 at `url`."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        with suppress(OSError), urllib.request.urlopen(url, timeout=2) as answer:
            if answer.status == 200:
                return
        time.sleep(0.1)
    raise MigrateError(f"nothing answered at {url} in {timeout_s:.0f} s")


def fetch_in(docker: Docker, container: str, url: str, body: dict[str, Any] | None = None) -> str:
    """Ask a server inside a container's own network, where only it can be reached."""
    script = (
        "import sys,urllib.request as u;b=sys.argv[2].encode() or None;"
        "r=u.Request(sys.argv[1],data=b,headers={'Content-Type':'application/json'});"
        "print(u.urlopen(r,timeout=120).read().decode())"
    )
    return docker.exec(container, ["python3", "-c", script, url, json.dumps(body) if body else ""])
