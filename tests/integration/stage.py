"""A migration to play with: a scene, people who never stop asking, somebody who knocks all the time, the commands."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from demo.scene import ENGINE, MODEL, SIDECAR, Scene
from orchestrator.clients.docker import ContainerFacts
from orchestrator.clients.gateway import Gateway, GatewayStatus
from orchestrator.clients.netfilter import Netfilter
from orchestrator.journal import Journal
from orchestrator.steps.swap_probe import Prober, who

ROOT = Path(__file__).resolve().parents[2]
HANG_S = 240.0      # a command that takes longer hangs
NAME = "kt"
# Quick, and no verdict depends on how busy the machine is.
SETTINGS: dict[str, Any] = {
    "load": {"users": [1, 2], "requests_per_user": 2, "max_tokens": 8, "latency_factor": 100.0,
             "baseline": False},
    "cutover": {"bake": "2s", "min_requests": 2, "patience": "90s", "lease": "6s",
                "thresholds": {"ttft_ratio": 100.0, "e2e_ratio": 100.0}},
}
# For `up` with the real vLLM: the stand-in Ollama counts tokens of its own, and draws them otherwise.
ANOTHER_MODEL = ("--skip", "rendering", "--skip", "contract", "--reason", "the stand-in Ollama is another model, on purpose")


@dataclass(frozen=True)
class Done:
    """A command that has ended; `err` holds the lines that a person would have seen."""

    code: int
    out: str
    err: str

    def assert_clean(self) -> None:
        """Words for people: no traceback, and the last line says what to do next."""
        assert "Traceback" not in self.err + self.out
        assert self.err.splitlines()[-1].startswith("next:"), self.err


class Command:
    """One `migrate` at work, in a process group of its own."""

    def __init__(self, stage: Stage, words: tuple[str, ...], **environment: str) -> None:
        self.words = words
        self._at = stage.scene.folder / f"command-{time.monotonic_ns()}"
        progress = () if "--json" in words or words[0] == "logs" else ("--progress", "plain")
        with self._at.with_suffix(".out").open("wb") as out, self._at.with_suffix(".err").open("wb") as err:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "orchestrator", *words, *progress], cwd=ROOT, stdin=subprocess.DEVNULL,
                stdout=out, stderr=err, env={**os.environ, **stage.scene.environment, **environment},
                start_new_session=True,
            )

    @property
    def err(self) -> str:
        return self._at.with_suffix(".err").read_text(encoding="utf-8")

    def wait(self) -> Done:
        try:
            code = self.process.wait(timeout=HANG_S)
        except subprocess.TimeoutExpired:
            self.kill(group=True)
            raise AssertionError(f"migrate {' '.join(self.words)} hangs; it said:\n{self.err}") from None
        # A signal that comes when all is done ends the interpreter: a shell shows the same number.
        return Done(code if code >= 0 else 128 - code, self._at.with_suffix(".out").read_text(encoding="utf-8"), self.err)

    def wait_for(self, text: str) -> None:
        """Return once it has said `text`."""
        until = time.monotonic() + HANG_S
        while text not in self.err:
            if self.process.poll() is not None or time.monotonic() > until:
                raise AssertionError(f"migrate {' '.join(self.words)} never said {text!r}:\n{self.err}")
            time.sleep(0.02)

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def ctrl_c(self) -> None:
        """As a terminal sends it: to the docker command that runs, too."""
        os.killpg(self.process.pid, signal.SIGINT)

    def kill(self, *, group: bool) -> bool:
        """Kill -9, the docker commands it runs too with `group`; returns whether it was still at work."""
        at_work = self.process.poll() is None
        with suppress(ProcessLookupError):
            if group:
                os.killpg(self.process.pid, signal.SIGKILL)
            else:
                self.process.kill()
        self.process.wait()
        return at_work


@dataclass
class Stage:
    """The scene of one test module; `faults` is where the engine looks for what it should suffer."""

    scene: Scene
    faults: Path = field(init=False)
    forgiven: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.faults = self.scene.folder / "faults"
        self.faults.mkdir(parents=True, exist_ok=True)

    # -- acting -------------------------------------------------------------------------------------------

    def start(self, *words: str, **environment: str) -> Command:
        return Command(self, words, **environment)

    def migrate(self, *words: str, code: int = 0, **environment: str) -> Done:
        """Run a command to its end, which must be `code`.

        On a busy machine the load test of `up` may have no verdict (7), and says to run it again.
        """
        done = self.start(*words, **environment).wait()
        for _ in range(3):
            if words[0] != "up" or code or done.code != 7 or "has no verdict" not in done.err:
                break
            done = self.start(*words, **environment).wait()
        assert done.code == code, f"migrate {' '.join(words)} ended with {done.code}:\n{done.out}{done.err}"
        return done

    def plan(self) -> Done:
        return self.migrate("plan", "--ollama", self.scene.url, "--model", MODEL)

    def edit(self, change: Callable[[dict[str, Any]], None]) -> None:
        """Change migrate.yaml as a person would."""
        import yaml

        path = self.scene.stack / "migrate.yaml"
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
        change(data)
        path.write_text(yaml.safe_dump(data, sort_keys=False), encoding="utf-8")

    @contextmanager
    def fault(self, name: str) -> Iterator[None]:
        """Let the engine suffer: die, hang or 503."""
        (self.faults / name).touch()
        try:
            yield
        finally:
            (self.faults / name).unlink()

    @contextmanager
    def people(self, users: int = 4, tokens: int = 24) -> Iterator[None]:
        """Clients talk, and somebody knocks at the port, all along; at the end nothing may have been lost."""
        self.scene.people_arrive(users, tokens)
        prober = Prober("127.0.0.1", self.scene.port)
        prober.start()
        try:
            yield
        finally:
            knocks = prober.stop()
            self.scene.people_leave()
        print(f"{Counter(one['outcome'] for one in self.scene.answers())}; {knocks}")
        assert self.lost() == []
        assert (knocks.refused, knocks.answered > 0) == (0, True), knocks

    # -- looking ------------------------------------------------------------------------------------------

    def lost(self) -> list[dict[str, Any]]:
        """Requests of the clients that were not answered completely, but for those forgiven."""
        return [one for one in self.scene.answers() if one["outcome"] != "complete" and one not in self.forgiven]

    def forgive(self, lost: list[dict[str, Any]]) -> None:
        """Leave out what could not be saved: it ran on a part that was killed."""
        self.forgiven += lost

    def journal(self) -> Journal:
        journal = Journal(self.scene.stack / ".state", create=False)
        journal.known({MODEL: True}, (ENGINE,))
        return journal

    def gateway(self) -> Gateway:
        token = (self.scene.stack / "secrets" / "control.token").read_text(encoding="utf-8").strip()
        return Gateway(f"http://127.0.0.1:{self.scene.control_port}", token)

    def door(self) -> GatewayStatus:
        with self.gateway() as gateway:
            return gateway.status()

    def weight(self) -> float:
        return self.door().weights.get(MODEL, 0.0)

    def status(self) -> dict[str, Any]:
        answer: dict[str, Any] = json.loads(self.migrate("status", "--json").out)
        return answer

    def service(self, name: str) -> ContainerFacts | None:
        found = self.scene.docker.containers(project=self.scene.project, service=name)
        assert len(found) <= 1
        return found[0] if found else None

    def until(self, what: str, there: Callable[[], bool], seconds: float = 60) -> None:
        """Wait for something that must come; the bound is for hangs only."""
        end = time.monotonic() + seconds
        while not there():
            assert time.monotonic() < end, f"{what}: not after {seconds:.0f} s"
            time.sleep(0.1)

    def picture(self) -> dict[str, Any]:
        """The world as a migration leaves it: what must be the same whatever happened on the way."""
        journal = self.journal()
        states = journal.states()
        unended = [run["command"] for run in journal.runs() if run["ended"] is None]
        holder = journal.holder()
        journal.close()
        docker, name = self.scene.docker, self.scene.name
        return {
            "stack": str(states.stack), "routes": _words(states.routes), "engines": _words(states.engines),
            "running": (unended, holder),
            "answers": who("127.0.0.1", self.scene.port, name),
            "containers": sorted(_container(one) for one in docker.containers(project=self.scene.project)),
            "original": sorted(_container(one) for one in docker.containers(labels=self.scene.label)),
            "of the swap": [one.name for one in docker.containers(labels={"migrate.swap": f"migrate:{name}"})],
            "temporary": docker.find(f"{self.scene.project}-swap"),
            "rules": Netfilter(docker, SIDECAR, name).rules(),
            "volumes": sorted(docker.volumes(self.scene.project)),
            "swap volume": f"{self.scene.project}_gateway-swap" in docker._cli.docker("volume", "ls", "-q").split(),
        }


def _words(states: dict[str, Any]) -> dict[str, str]:
    return {name: str(state) for name, state in states.items()}


def _container(one: ContainerFacts) -> tuple[Any, ...]:
    networks = tuple((name, tuple(sorted(set(names) - {one.id[:12]}))) for name, names in sorted(one.networks.items()))
    return one.name, one.running, one.restart, networks, tuple(port.host_port for port in one.ports)
