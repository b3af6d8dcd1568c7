"""The real nginx in the gateway's image, on the host's network, with our configuration."""

from __future__ import annotations

import json
import os
import subprocess
import time
import uuid
from dataclasses import dataclass
from pathlib import Path

import httpx
import jinja2

TEMPLATES = Path(__file__).parents[2] / "templates" / "gateway"
IMAGE = os.environ.get("GATEWAY_IMAGE", "migrate/gateway:dev")
PYTHON_IMAGE = os.environ.get("PYTHON_IMAGE", "migrate/python:dev")
TOKEN = "t0ken-of-the-test"
ROUTE, EMBED, FIXED, STICKY = "llama3.1:8b", "nomic-embed-text:latest", "fixed:latest", "sticky:latest"
DRAWN, SHADOWED = "drawn:latest", "shadowed:latest"
SPREAD, SPREAD_FIXED, SPREAD_EMBED = "spread:latest", "spread-fixed:latest", "spread-embed:latest"
REPLICAS = ("two", "two-2", "two-3")


def route(engine: str = "one", **changes) -> dict:
    return {
        "engine": engine,
        "names": [],
        "served": "x",
        "direct": True,
        "kind": "generate",
        "failover": True,
        **changes,
    }


ROUTES = {
    ROUTE: route(names=["meta-llama/Llama-3.1-8B-Instruct"]),
    EMBED: route(kind="embedding", direct=False, failover=False),
    FIXED: route(failover=False),
    STICKY: route(),
    DRAWN: route(sticky=False),
    SHADOWED: route(shadow=100),
    SPREAD: route("two"),
    SPREAD_FIXED: route("two", failover=False),
    SPREAD_EMBED: route("two", kind="embedding", direct=False, failover=False),
}
WRITTEN_TOGETHER = " buffer=64k flush=100ms"     # how the log is written


def docker(*argv: str) -> str:
    done = subprocess.run(["docker", *argv], check=False, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, f"docker {' '.join(argv)}: {done.stderr}"
    return done.stdout.strip()


@dataclass
class Ports:
    """Loopback ports; everything listens below one base."""

    base: int

    public = property(lambda self: self.base)
    control = property(lambda self: self.base + 1)
    ollama = property(lambda self: self.base + 2)
    adapter = property(lambda self: self.base + 3)
    engine = property(lambda self: self.base + 4)
    shadow = property(lambda self: self.base + 20)
    replicas = property(lambda self: range(self.base + 5, self.base + 5 + len(REPLICAS)))


class Nginx:
    """A gateway container; `folder` holds its configuration and state and outlives it."""

    def __init__(self, folder: Path, ports: Ports, *, network: str = "", lua: Path = TEMPLATES / "lua") -> None:
        self.folder, self.ports, self.network, self.lua = folder, ports, network, lua
        self.container = f"migrate-gwtest-{uuid.uuid4().hex[:8]}"
        self.public = f"http://127.0.0.1:{ports.public}"
        self.control = f"http://127.0.0.1:{ports.control}"
        self.etc, self.state = folder / "etc", folder / "state"
        self._write()

    def _addresses(self) -> dict:
        """Fixed addresses on the host's network, or names to be resolved in a Docker network."""
        p = self.ports
        if self.network:
            return {
                "resolver": "127.0.0.11",
                "public_listen": "11434",
                "control_listen": "9180",
                "ollama": "ollama:11434",
                "adapter": "adapter:8080",
                "engines": {"one": "vllm-one:8000"} | {name: f"vllm-{name}:8000" for name in REPLICAS},
            }
        return {
            "resolver": "",
            "public_listen": f"127.0.0.1:{p.public}",
            "control_listen": f"127.0.0.1:{p.control}",
            "ollama": f"127.0.0.1:{p.ollama}",
            "adapter": f"127.0.0.1:{p.adapter}",
            "engines": {"one": f"127.0.0.1:{p.engine}"}
            | {name: f"127.0.0.1:{port}" for name, port in zip(REPLICAS, p.replicas, strict=True)},
        }

    def _write(self) -> None:
        self.etc.mkdir(parents=True, exist_ok=True)
        (self.etc / "lua").mkdir(exist_ok=True)  # where the templates are mounted
        self.state.mkdir(exist_ok=True)
        environment = jinja2.Environment(undefined=jinja2.StrictUndefined, keep_trailing_newline=True)
        text = environment.from_string((TEMPLATES / "nginx.conf.j2").read_text()).render(
            **self._addresses(),
            workers=2,
            state_dir="/var/lib/gateway",
            etc_dir="/etc/gateway",
            pid="/var/lib/gateway/nginx.pid",
        )
        # No test waits for the log, and none finds lines of the one before.
        (self.etc / "nginx.conf").write_text(text.replace(WRITTEN_TOGETHER, ""))
        config = {
            "stack": "demo",
            "role": "final",
            "ollama": "o",
            "adapter": "a",
            "shadow": "shadow:8090" if self.network else f"127.0.0.1:{self.ports.shadow}",
            "engines": dict.fromkeys(("one", *REPLICAS), "e"),
            "replicas": {"two": REPLICAS},
            "routes": ROUTES,
        }
        (self.etc / "config.json").write_text(json.dumps(config))
        (self.etc / "token").write_text(TOKEN + "\n")

    def start(self) -> None:
        reach = ["--network", "host"]
        if self.network:
            p = self.ports
            reach = [
                "--network",
                self.network,
                "-p",
                f"127.0.0.1:{p.public}:11434",
                "-p",
                f"127.0.0.1:{p.control}:9180",
            ]
        docker("run", "-d", "--name", self.container, *reach,
               "-v", f"{self.etc}:/etc/gateway:ro", "-v", f"{self.lua}:/etc/gateway/lua:ro",
               "-v", f"{self.state}:/var/lib/gateway", IMAGE,
               "openresty", "-c", "/etc/gateway/nginx.conf", "-g", "daemon off;")  # fmt: skip
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            try:
                if httpx.get(f"{self.control}/health").status_code == 200:
                    return
            except httpx.TransportError:
                time.sleep(0.05)
        raise AssertionError(f"the gateway did not start: {self.logs()}")

    def logs(self) -> str:
        done = subprocess.run(["docker", "logs", self.container], check=False, capture_output=True, text=True)
        return done.stdout + done.stderr

    def remove(self) -> None:
        subprocess.run(["docker", "rm", "-f", self.container], check=False, capture_output=True)

    def ask(self, method: str, path: str, **kwargs) -> httpx.Response:
        headers = {"Authorization": f"Bearer {TOKEN}"} | kwargs.pop("headers", {})
        return httpx.request(method, self.control + path, headers=headers, timeout=30, **kwargs)

    def status(self) -> dict:
        return self.ask("GET", "/control/status").json()

    def weights(self, weights: dict[str, float], version: int | str | None = "now") -> httpx.Response:
        if version == "now":
            version = self.status()["version"]
        return self.ask("POST", "/control/weights", json={"version": version, "weights": weights, "by": "test"})

    def records(self) -> list[dict]:
        """Return the log in the order in which requests began: each worker writes its own lines together."""
        lines = (self.state / "access.jsonl").read_text().splitlines()
        return sorted((json.loads(line) for line in lines), key=lambda record: record["ts"])

    def record(self, count: int = 1) -> dict:
        """Return the newest record once there are `count` of them."""
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            found = self.records()
            if len(found) >= count:
                return found[-1]
            time.sleep(0.01)
        raise AssertionError(f"no record number {count}: {self.records()}")

    def forget_records(self) -> None:
        path = self.state / "access.jsonl"
        path.write_text("")
