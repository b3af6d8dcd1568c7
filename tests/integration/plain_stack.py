"""A rendered stack with stand-in engines, started with Docker alone: no `migrate` runs while something goes wrong."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
import urllib.request
from pathlib import Path
from typing import Any

import yaml

from demo.scene import SHARED_CPU, TINY, free_port, models_folder
from orchestrator.clients.gateway import Gateway, GatewayStatus
from orchestrator.render import render, write
from orchestrator.spec import load_spec

MODEL, ENGINE = "llama3.1:8b", "llama3-1-8b"
WAIT_S = 60.0


class PlainStack:
    """`docker compose up` of what `migrate` renders; `service` names are those of the compose file."""

    def __init__(
        self, folder: Path, name: str = "gf", *, token_ms: int = 3, vllm: str = "migrate/standin-vllm:dev",
        engine: dict[str, Any] | None = None,
    ) -> None:
        self.folder, self.name = folder, name
        self.port, self.control = free_port(27000), free_port(27200)
        self.faults = folder / "faults"
        self.faults.mkdir(parents=True, exist_ok=True)
        spec = {
            "version": 1, "name": name, "accelerator": "cpu",
            "ollama": {
                "url": f"http://127.0.0.1:{self.port}", "container": "none", "image": "migrate/standin-ollama:dev",
                "context_length": 4096, "num_parallel": 512,
                "env": {"STANDIN_TOKEN_MS": str(token_ms), "STANDIN_LOAD_S": "0", "OLLAMA_KEEP_ALIVE": "-1"},
            },
            "gateway": {"listen": "127.0.0.1", "port": self.port, "control_port": self.control, "sticky": False},
            "engines": {ENGINE: {
                "repo": "meta-llama/Llama-3.1-8B-Instruct", "max_model_len": 2048, "max_num_seqs": 256,
                "kv_cache": "1GiB", "gated": False, "volumes": [f"{self.faults}:/faults:ro"],
                "env": {"STANDIN_START_S": "1", "STANDIN_TOKEN_MS": str(token_ms), "STANDIN_FAULTS": "/faults"},
                **(engine or {}),
            }},
            "routes": {MODEL: {"engine": ENGINE}},
            "images": {"vllm": vllm, "gateway": "migrate/gateway:dev", "sidecar": "migrate/sidecar:dev"},
        }
        (folder / "migrate.yaml").write_text(yaml.safe_dump(spec), encoding="utf-8")
        write(folder, render(load_spec(folder / "migrate.yaml")))
        self.url = f"http://127.0.0.1:{self.port}"
        self.vllm = f"vllm-{ENGINE}"

    @classmethod
    def real(cls, folder: Path, name: str) -> PlainStack:
        """The same with the real vLLM (its CPU build) and a tiny model."""
        engine = {
            "repo": TINY, "max_num_seqs": 16, "enforce_eager": True, "dtype": "float32", "volumes": [f"{models_folder()}:/models:ro"],
            "env": {"HF_HUB_OFFLINE": "1", **SHARED_CPU},
        }
        return cls(folder, name, vllm="migrate/vllm-cpu:dev", engine=engine)

    # -- acting -------------------------------------------------------------------------------------------

    def docker(self, *words: str) -> str:
        done = subprocess.run(["docker", *words], check=False, capture_output=True, text=True, timeout=240)
        assert done.returncode == 0, f"docker {' '.join(words)}: {done.stderr}"
        return done.stdout.strip()

    def compose(self, *words: str) -> str:
        return self.docker("compose", "-f", str(self.folder / "compose.yaml"), "--project-directory", str(self.folder), *words)

    def up(self, *services: str) -> None:
        self.compose("up", "-d", *services)
        self.until("all answer", self._ready, 400)

    def _ready(self) -> bool:
        body = json.dumps({"model": MODEL, "messages": [{"role": "user", "content": "x"}], "max_tokens": 1}).encode()
        return all(self.ask(f"/side/{side}/v1/chat/completions", body) is not None for side in ("ollama", "vllm"))

    def ask(self, path: str, body: bytes | None = None) -> dict[str, Any] | None:
        """What the control door answers, or None when it is not 200."""
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}
        request = urllib.request.Request(f"http://127.0.0.1:{self.control}{path}", body, headers)
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                found: dict[str, Any] = json.loads(answer.read())
                return found
        except (OSError, ValueError):
            return None

    def down(self) -> None:
        self.docker("compose", "-p", f"migrate-{self.name}", "down", "-v", "-t", "1", "--remove-orphans")

    def weight(self, weight: float) -> None:
        with self.gateway() as gateway:
            gateway.set_weights({MODEL: weight}, gateway.status().version, "test")

    def container(self, service: str) -> str:
        return f"migrate-{self.name}-{service}-1"

    def pid(self, service: str) -> int:
        """The server's own process: below an init it is the only child."""
        pid = int(self.docker("inspect", "--format", "{{.State.Pid}}", self.container(service)))
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="utf-8").split()
        inits = ("docker-init", "tini")
        return int(children[0]) if children and Path(f"/proc/{pid}/comm").read_text().strip() in inits else pid

    def core(self, number: int) -> None:
        """Send a signal to the processes of the real vLLM that work behind its server."""
        lines = self.docker("top", self.container(self.vllm), "-eo", "pid,args").splitlines()[1:]
        found = [int(line.split()[0]) for line in lines if "VLLM::" in line]
        assert found, lines
        for pid in found:
            os.kill(pid, number)

    def kill(self, service: str, number: int) -> None:
        os.kill(self.pid(service), number)

    def freeze(self, service: str, how: str) -> None:
        """Stop a service from running: all of its container with `pause`, its server alone with SIGSTOP."""
        if how == "pause":
            self.docker("pause", self.container(service))
        else:
            self.kill(service, signal.SIGSTOP)

    def thaw(self, service: str, how: str) -> None:
        if how == "pause":
            self.docker("unpause", self.container(service))
        else:
            self.kill(service, signal.SIGCONT)

    def noted(self) -> list[dict[str, Any]]:
        """What the guard has written down for the journal."""
        path = self.folder / ".state" / "guard" / "events.jsonl"
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        return [json.loads(line) for line in lines]

    # -- looking ------------------------------------------------------------------------------------------

    @property
    def token(self) -> str:
        return (self.folder / "secrets" / "control.token").read_text(encoding="utf-8").strip()

    def gateway(self) -> Gateway:
        return Gateway(f"http://127.0.0.1:{self.control}", self.token)

    def status(self) -> GatewayStatus:
        with self.gateway() as gateway:
            return gateway.status()

    def circuits(self) -> dict[str, Any]:
        found = self.ask("/control/status")
        assert found
        return dict(found["circuits"])

    def failovers(self) -> int:
        return self.status().failovers.get(MODEL, 0)

    def until(self, what: str, there: Any, seconds: float = WAIT_S) -> None:
        """Wait for something that must come; the bound is for hangs only."""
        end = time.monotonic() + seconds
        while not there():
            assert time.monotonic() < end, f"{what}: not after {seconds:.0f} s"
            time.sleep(0.05)
