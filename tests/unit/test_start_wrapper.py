"""The wrapper before `vllm serve`, as real processes with a stand-in vllm, nvidia-smi and Ollama."""

from __future__ import annotations

import http.server
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

WRAPPER = Path(__file__).parents[2] / "templates" / "engine" / "start.py"

# Writes begin and end of its start to a file; answers /health when `go` exists; ends with the code in `exit`.
VLLM = """#!{python}
import http.server, os, pathlib, signal, sys, threading, time
folder = pathlib.Path(os.environ["FAKE_DIR"])
name = sys.argv[-1]
with (folder / "order").open("a") as out:
    out.write("begin " + name + " " + " ".join(sys.argv[1:]) + "\\n")
signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))
while not (folder / ("go-" + name)).exists():
    if (folder / ("exit-" + name)).exists():
        os._exit(3)
    time.sleep(0.01)
class Health(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers()
    def log_message(self, *_): pass
server = http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["FAKE_PORT"])), Health)
with (folder / "order").open("a") as out:
    out.write("ready " + name + "\\n")
threading.Thread(target=server.serve_forever, daemon=True).start()
while True:
    signal.pause()
"""

SMI = """#!/bin/sh
cat "$FAKE_DIR/free"
"""


class Bench:
    """A folder with the stand-in programs, and the wrappers started from it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.started: list[subprocess.Popen[str]] = []
        (folder / "bin").mkdir()
        self.program("vllm", VLLM.format(python=sys.executable))
        self.program("nvidia-smi", SMI)
        (folder / "free").write_text("20000\n")

    def program(self, name: str, text: str) -> None:
        path = self.folder / "bin" / name
        path.write_text(text)
        path.chmod(0o755)

    def start(self, name: str, port: int, **config: Any) -> subprocess.Popen[str]:
        given = {
            "name": name, "ollama": "http://127.0.0.1:9", "pinned": [], "gpus": ["0"], "accelerator": "nvidia",
            "lock_dir": str(self.folder / "locks"), "ready": f"http://127.0.0.1:{port}/health",
            "timeout_s": 60, "poll_s": 0.02, **config,
        }  # fmt: skip
        path = self.folder / f"{name}.json"
        path.write_text(json.dumps(given))
        environment = {
            **os.environ,
            "PATH": f"{self.folder / 'bin'}:{os.environ['PATH']}",
            "FAKE_DIR": str(self.folder),
            "FAKE_PORT": str(port),
            "MIGRATE_START_CONFIG": str(path),
        }
        command = [sys.executable, str(WRAPPER), "org/model", "--flag", name]
        out = (self.folder / f"{name}.log").open("w")
        with out:
            process = subprocess.Popen(command, env=environment, stdout=out, stderr=out, text=True)
        self.started.append(process)
        return process

    def log(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text()

    def order(self) -> list[str]:
        path = self.folder / "order"
        lines = path.read_text().splitlines() if path.exists() else []
        return [" ".join(line.split()[:2]) for line in lines]

    def touch(self, name: str) -> None:
        (self.folder / name).touch()


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, "did not happen"
        time.sleep(0.01)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    yield made
    for process in made.started:
        if process.poll() is None:
            process.kill()
        process.wait(10)


class Ollama:
    """Answers /api/ps with `models`."""

    def __init__(self) -> None:
        outer = self
        self.models: list[dict[str, Any]] = []
        self.asked: list[tuple[str, Any]] = []

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                outer.asked.append((self.path, body))
                refused = self.path == "/api/generate" and body["model"].startswith("emb")
                self.send_response(400 if refused else 200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def do_GET(self) -> None:
                body = json.dumps({"models": outer.models}).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01})
        self.thread.start()


@pytest.fixture
def fake_ollama() -> Iterator[Ollama]:
    made = Ollama()
    yield made
    made.server.shutdown()
    made.server.server_close()
    made.thread.join()


def test_arguments_reach_vllm_and_its_exit_code_comes_back(bench: Bench) -> None:
    bench.touch("exit-one")
    assert bench.start("one", 22001).wait(30) == 3
    assert (bench.folder / "order").read_text() == "begin one serve org/model --flag one\n"
    assert "free GPU memory 20000 MiB" in bench.log("one")


def test_two_starts_on_one_gpu_are_one_after_the_other(bench: Bench) -> None:
    bench.start("one", 22001)
    until(lambda: bench.order() == ["begin one"])
    bench.start("two", 22002, gpus=["1", "0"])
    until(lambda: "waiting for GPU 0: one is starting, 0 s" in bench.log("two"))
    assert bench.order() == ["begin one"]
    bench.touch("go-one")
    until(lambda: "begin two" in bench.order())
    assert bench.order() == ["begin one", "ready one", "begin two"]


def test_starts_on_different_gpus_do_not_wait(bench: Bench) -> None:
    bench.start("one", 22001, gpus=["0"])
    bench.start("two", 22002, gpus=["1"])
    until(lambda: sorted(bench.order()) == ["begin one", "begin two"])


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_an_engine_that_ends_while_starting_frees_the_gpu(bench: Bench, number: int) -> None:
    first = bench.start("one", 22001)
    until(lambda: bench.order() == ["begin one"])
    bench.start("two", 22002)
    until(lambda: "one is starting" in bench.log("two"))
    first.send_signal(number)
    assert first.wait(10) == (7 if number == signal.SIGTERM else -signal.SIGKILL)
    until(lambda: bench.order() == ["begin one", "begin two"])


def test_a_running_engine_gets_the_signal_and_its_code_is_passed_on(bench: Bench) -> None:
    process = bench.start("one", 22001)
    bench.touch("go-one")
    until(lambda: bench.order() == ["begin one", "ready one"])
    process.terminate()
    assert process.wait(10) == 7


def test_stop_while_waiting_is_143_and_starts_nothing(bench: Bench) -> None:
    process = bench.start("one", 22001, pinned=["llama3.1:8b"])
    until(lambda: "waiting for Ollama to answer" in bench.log("one"))
    process.terminate()
    assert process.wait(10) == 143
    assert bench.order() == []


def test_ollama_must_hold_all_of_each_pinned_model(bench: Bench, fake_ollama: Ollama) -> None:
    bench.start("one", 22001, ollama=fake_ollama.url, pinned=["Llama3.1:8B", "emb"])
    until(lambda: "waiting for Ollama to load Llama3.1:8B, 0 s" in bench.log("one"))
    llama = {"name": "llama3.1:8b", "size": 100, "size_vram": 60}
    fake_ollama.models = [llama, {"name": "emb:latest", "size": 5, "size_vram": 5}]
    until(lambda: "all of Llama3.1:8B on the GPU (60 % of it is there)" in bench.log("one"))
    assert bench.order() == []
    llama["size_vram"] = 100
    until(lambda: bench.order() == ["begin one"])


@pytest.mark.parametrize(
    "name, asked", [("llama3.1:8b", ["/api/generate"]), ("emb:latest", ["/api/generate", "/api/embed"])]
)
def test_a_spilled_model_is_loaded_anew_once_there_is_room(
    bench: Bench, fake_ollama: Ollama, name: str, asked: list[str]
) -> None:
    gib = 2**30
    (bench.folder / "free").write_text("3000\n")
    model = {"name": name, "size": 6 * gib, "size_vram": 2 * gib}
    fake_ollama.models = [model, {"name": "not-pinned:latest", "size": 9, "size_vram": 1}]
    bench.start("one", 22001, ollama=fake_ollama.url, pinned=[name])
    until(lambda: "(33 % of it is there)" in bench.log("one"))
    assert fake_ollama.asked == []
    (bench.folder / "free").write_text("5000\n")
    until(lambda: len(fake_ollama.asked) == len(asked))
    assert [path for path, _ in fake_ollama.asked] == asked
    assert all(body["model"] == name and body["keep_alive"] == 0 for _, body in fake_ollama.asked)
    assert bench.order() == []
    model["size_vram"] = model["size"]
    until(lambda: bench.order() == ["begin one"])
    assert len(fake_ollama.asked) == len(asked)


def test_ollama_is_asked_again_after_the_turn_of_others(bench: Bench, fake_ollama: Ollama) -> None:
    model = {"name": "m:latest", "size": 5, "size_vram": 5}
    fake_ollama.models = [model]
    bench.start("one", 22001)
    until(lambda: bench.order() == ["begin one"])
    bench.start("two", 22002, ollama=fake_ollama.url, pinned=["m"])
    until(lambda: "one is starting" in bench.log("two"))
    fake_ollama.models = []
    bench.touch("go-one")
    until(lambda: "waiting for Ollama to load m" in bench.log("two"))
    assert bench.order() == ["begin one", "ready one"]
    fake_ollama.models = [model]
    until(lambda: bench.order() == ["begin one", "ready one", "begin two"])


def test_without_a_gpu_being_loaded_is_enough(bench: Bench, fake_ollama: Ollama) -> None:
    fake_ollama.models = [{"name": "emb:latest", "size": 5, "size_vram": 0}]
    bench.start("one", 22001, ollama=fake_ollama.url, pinned=["emb"], accelerator="cpu", gpus=[])
    until(lambda: bench.order() == ["begin one"])


def test_memory_must_stand_still(bench: Bench) -> None:
    # Each look takes another 1,000 MiB away, until the file says stop.
    bench.program(
        "nvidia-smi",
        '#!/bin/sh\nfree=$(cat "$FAKE_DIR/free")\necho "$free"\n'
        '[ -e "$FAKE_DIR/still" ] || echo $((free - 1000)) > "$FAKE_DIR/free"\n',
    )
    bench.start("one", 22001)
    until(lambda: "waiting for GPU memory to be stable" in bench.log("one"))
    assert bench.order() == []
    bench.touch("still")
    until(lambda: bench.order() == ["begin one"])


def test_a_wait_that_takes_too_long_ends_with_its_reason(bench: Bench) -> None:
    process = bench.start("one", 22001, pinned=["m"], timeout_s=0)
    assert process.wait(30) == 1
    assert "gave up after" in bench.log("one")


def test_no_nvidia_smi_is_said_and_no_obstacle(bench: Bench) -> None:
    bench.program("nvidia-smi", "#!/bin/sh\nexit 9\n")
    bench.start("one", 22001)
    until(lambda: bench.order() == ["begin one"])
    assert "GPU memory cannot be read, going on: nvidia-smi: exit 9" in bench.log("one")
