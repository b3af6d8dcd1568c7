"""A real Prometheus with our configuration before the real gateway, a vLLM's metrics and the sampler."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from gateway_bench import Bench, chat
from gateway_fakes import SSE, drop, pieces, sse
from gateway_harness import ROUTE, SPREAD, TOKEN

from orchestrator.adapter import sampler
from orchestrator.render import render
from orchestrator.spec import load_spec
from tests.unit import standin_servers

pytestmark = pytest.mark.docker

ROOT = Path(__file__).resolve().parents[2]
CACHE = Path(os.environ.get("MIGRATE_CACHE") or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "migrate")
FILES = render(load_spec(ROOT / "stacks" / "llama3-1-8b-24gb" / "migrate.yaml"))
DASHBOARD = json.loads(FILES["monitoring/dashboard.json"])
EXPRESSIONS = [target["expr"] for panel in DASHBOARD["panels"] for target in panel.get("targets", [])]
EXPRESSIONS += [note["expr"] for note in DASHBOARD["annotations"]["list"]]


def programs() -> Path:
    """Return the folder of prometheus and promtool: the machine's, or the Debian package's in the cache."""
    found = shutil.which("prometheus")
    if found:
        return Path(found).parent
    folder = CACHE / "prometheus"
    if not (folder / "usr" / "bin" / "prometheus").exists():
        subprocess.run([ROOT / "tools" / "engine", "package", "prometheus", folder], check=True, capture_output=True, timeout=300)
    return folder / "usr" / "bin"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as one:
        return int(one.getsockname()[1])


def config(folder: Path, targets: dict[str, str]) -> Path:
    """Write our configuration with other addresses and a shorter interval, all else as rendered."""
    data = yaml.safe_load(FILES["monitoring/prometheus.yml"])
    data["global"] = {"scrape_interval": "1s", "scrape_timeout": "1s"}
    for job in data["scrape_configs"]:
        for group in job["static_configs"]:
            group["targets"] = [targets[job["job_name"]]]
        if "authorization" in job:
            (folder / "token").write_text(TOKEN + "\n", encoding="utf-8")
            job["authorization"]["credentials_file"] = str(folder / "token")
    path = folder / "prometheus.yml"
    path.write_text(yaml.safe_dump(data), encoding="utf-8")
    return path


class Prometheus:
    """A running one; `ask` runs a query."""

    def __init__(self, folder: Path, targets: dict[str, str]) -> None:
        self.url = f"http://127.0.0.1:{free_port()}"
        with (folder / "log").open("wb") as log:
            self.process = subprocess.Popen(
                [programs() / "prometheus", f"--config.file={config(folder, targets)}", f"--storage.tsdb.path={folder / 'data'}",
                 f"--web.listen-address={self.url.removeprefix('http://')}"],
                stdout=log, stderr=log, stdin=subprocess.DEVNULL,
            )  # fmt: skip
        self.log = folder / "log"

    def ask(self, path: str, **parameters: str) -> Any:
        answer = httpx.get(f"{self.url}/api/v1/{path}", params=parameters, timeout=10)
        data = answer.json()
        assert data["status"] == "success", (parameters, data)
        return data["data"]

    def wait(self, done: Callable[[], bool], why: Callable[[], str] = str) -> None:
        until = time.monotonic() + 60
        while True:
            with suppress(httpx.TransportError):   # it is starting
                if done():
                    return
            assert time.monotonic() < until, why() + self.log.read_text(encoding="utf-8")[-3000:]
            time.sleep(0.2)

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(20)


@pytest.fixture(scope="module")
def stage(shared_bench: Bench, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Prometheus, dict[str, str]]]:
    vllm = standin_servers.vllm("m")
    ollama = standin_servers.ollama(tmp_path_factory.mktemp("models"))
    server = sampler.server(sampler.Sampler(ollama.url), "127.0.0.1", 0)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    targets = {"gateway": shared_bench.nginx.control.removeprefix("http://"), "vllm": vllm.url.removeprefix("http://"),
               "ollama": f"127.0.0.1:{server.server_port}"}  # fmt: skip
    name = json.loads(ollama.ask("GET", "/api/tags")[2])["models"][0]["name"]
    ollama.ask("POST", "/api/embed", json.dumps({"model": name, "input": "x"}).encode(), {"content-type": "application/json"})
    vllm.ask("POST", "/v1/chat/completions", json.dumps(chat(model="m", max_tokens=4)).encode(), {"content-type": "application/json"})
    prometheus = Prometheus(tmp_path_factory.mktemp("prometheus"), targets)
    try:
        yield prometheus, targets
    finally:
        prometheus.stop()
        server.shutdown()
        thread.join()
        server.server_close()
        vllm.stop()
        ollama.stop()


def traffic(bench: Bench) -> None:
    """Something of everything: both sides, streams, replicas, a failover, an answer that breaks off."""
    parts = sse({"choices": [1]}, {"choices": [2]}, "[DONE]")
    bench.nginx.weights({ROUTE: 100, SPREAD: 100})
    for fake in (bench.engine, *bench.replicas.values()):
        fake.behave = pieces(parts, SSE)
    bench.chat(stream=True)
    bench.chat(stream=True, model=SPREAD)
    bench.engine.behave = drop
    bench.chat()
    bench.engine.behave = pieces(parts[:1], SSE)
    bench.chat(stream=True)
    bench.nginx.weights({ROUTE: 0})
    bench.ollama.behave = pieces(parts, SSE)
    bench.chat(stream=True)


def names_of(expression: str) -> set[str]:
    """Return the metrics that an expression asks for."""
    bare = re.sub(r"\{[^}]*\}|\[[^]]*\]|\"[^\"]*\"|\b(?:by|without)\s*\([^)]*\)", " ", expression)
    return set(re.findall(r"[a-zA-Z_:][a-zA-Z0-9_:]*(?![\w:]|\s*\()", bare)) - {"and", "or", "unless"}


def test_names_are_found_in_expressions() -> None:
    found = names_of('histogram_quantile(0.5, sum by (le, side) (rate(a_b:c_bucket{x="y"}[$__rate_interval]))) / up > 0')
    assert found == {"a_b:c_bucket", "up"}


def test_the_checked_in_configuration_is_valid(tmp_path: Path) -> None:
    (tmp_path / "prometheus.yml").write_text(FILES["monitoring/prometheus.yml"], encoding="utf-8")
    command = [programs() / "promtool", "check", "config", "--syntax-only", tmp_path / "prometheus.yml"]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("job", ["gateway", "vllm", "ollama"])
def test_promtool_finds_no_fault_with_what_is_shown(job: str, bench: Bench, stage: tuple[Prometheus, dict[str, str]]) -> None:
    traffic(bench)
    text = httpx.get(f"http://{stage[1][job]}/metrics", headers={"Authorization": f"Bearer {TOKEN}"}).text
    done = subprocess.run([programs() / "promtool", "check", "metrics"], input=text, check=False, capture_output=True, text=True)
    if job == "vllm":   # its names are not ours to choose
        assert done.returncode in (0, 3), done.stderr
    else:
        assert (done.returncode, done.stderr) == (0, "")


def test_prometheus_reads_all_three_and_every_panel_gets_an_answer(bench: Bench, stage: tuple[Prometheus, dict[str, str]]) -> None:
    prometheus, _ = stage
    traffic(bench)

    def up() -> dict[str, str]:
        return {one["metric"]["job"]: one["value"][1] for one in prometheus.ask("query", query="up")["result"]}

    prometheus.wait(lambda: up() == {"gateway": "1", "vllm": "1", "ollama": "1"})
    health = {one["labels"]["job"]: one["lastError"] for one in prometheus.ask("targets")["activeTargets"]}
    assert health == {"gateway": "", "vllm": "", "ollama": ""}
    silent = set(EXPRESSIONS)

    def all_answered() -> bool:
        traffic(bench)
        for expression in list(silent):
            asked = expression.replace("$__rate_interval", "1m").replace("$__interval", "1m").replace("$route", ".*")
            if prometheus.ask("query", query=asked)["result"]:
                silent.discard(expression)
        return not silent

    prometheus.wait(all_answered, lambda: str(silent))
    known = set(prometheus.ask("label/__name__/values"))
    assert {name for expression in EXPRESSIONS for name in names_of(expression)} - known == set()


def test_without_the_token_nothing_is_shown(bench: Bench) -> None:
    assert httpx.get(f"{bench.nginx.control}/metrics").status_code == 401
