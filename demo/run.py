"""A whole migration before your eyes: plan, up, cutover, rollback, cutover again, while people keep using the model."""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
from rich.console import Console
from rich.table import Table

from demo import figures
from demo.scene import ENGINE, MODEL, Scene, fetch_in
from orchestrator.clients.gateway import Gateway
from orchestrator.errors import MigrateError
from orchestrator.journal import Journal
from orchestrator.workspace import near

ROOT = Path(__file__).resolve().parent.parent
NEEDED = {"standin": 500, "vllm": 200}


class Demo:
    """Runs the commands as a user would and keeps the times."""

    def __init__(self, engine: str, folder: Path, prompts: Path | None) -> None:
        self.out = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 110)
        self.scene = Scene(engine, folder)
        self.prompts = prompts
        self.phases: list[figures.Phase] = []
        self.log: list[dict[str, Any]] = []
        self.rollback: tuple[float, float] = (0.0, 0.0)
        self.log_at = 0
        self.counted_from = 0
        self.extra_direct = 0     # our own direct calls, which the gateway cannot know
        self.failures: list[str] = []
        self.swapped = figures.Phase("", 0.0, 0.0)

    def play(self) -> int:
        started = time.monotonic()
        self.say("setting the scene: an Ollama container that owns the port, and six people who use it")
        self.scene.set()
        self.say(f"Ollama answers at {self.scene.url}")
        users, tokens = (6, 24) if self.scene.engine == "standin" else (4, 16)
        self.scene.people_arrive(users, tokens)
        self.phase("before")
        self.migrate("plan", "--ollama", self.scene.url, "--model", MODEL)
        self.scene.override()
        self.phase("deploy")
        self.migrate("up", "--yes")
        metrics = self.counters()
        for weight in ("10", "50", "100"):
            self.phase(f"cutover {weight} %")
            self.migrate("cutover", "--to", weight, "--yes")
        self.phase("on vLLM")
        self.settle(3)
        self.greedy()
        self.phase("rolled back")
        before = time.time()
        self.migrate("rollback")
        self.settle(4)
        self.rollback = (before, time.time())
        self.phase("cutover again")
        self.migrate("cutover", "--yes")
        self.settle(self.missing_s())
        self.scene.people_leave()
        self.end_phase()
        self.collect()
        self.reconcile(metrics)
        self.migrate("status")
        code = self.show(time.monotonic() - started)
        self.keep()
        self.migrate("down", "--volumes", "--confirm", "demo", "--yes")
        return code

    # -- acting -------------------------------------------------------------------------------------------

    def migrate(self, *words: str) -> None:
        """Run one command of the product; a failure ends the demonstration."""
        self.out.print(f"\n[bold]$ migrate {' '.join(words)}[/bold]")
        environment = {
            **os.environ,
            **self.scene.environment,
            "COLUMNS": os.environ.get("COLUMNS", "100"),
        }
        done = subprocess.run([sys.executable, "-m", "orchestrator", *words], env=environment, cwd=ROOT, check=False)
        if done.returncode:
            raise MigrateError(f"migrate {words[0]} ended with {done.returncode}")

    def say(self, text: str) -> None:
        self.out.print(f"[dim]# {text}[/dim]")

    def settle(self, seconds: float) -> None:
        time.sleep(seconds)

    def missing_s(self) -> float:
        """How long the clients should go on so that enough requests are on record."""
        have, needed = len(self.scene.answers()), int(NEEDED[self.scene.engine] * 1.05)
        took = time.time() - self.phases[0].start
        return max(3.0, min(120.0, (needed - have) / max(have / took, 0.1)))

    def phase(self, name: str) -> None:
        self.end_phase()
        self.phases.append(figures.Phase(name, time.time(), float("inf")))

    def end_phase(self) -> None:
        if self.phases:
            last = self.phases[-1]
            self.phases[-1] = figures.Phase(last.name, last.start, time.time())

    # -- looking ------------------------------------------------------------------------------------------

    @property
    def stack(self) -> Path:
        return self.scene.stack

    def gateway(self) -> Gateway:
        token = (self.stack / "secrets" / "control.token").read_text(encoding="utf-8").strip()
        return Gateway(f"http://127.0.0.1:{self.scene.control_port}", token)

    def collect(self) -> None:
        with self.gateway() as gateway:
            while True:
                records, after = gateway.log(self.log_at)
                self.log += [record.model_dump(by_alias=True) for record in records]
                if after == self.log_at:
                    return
                self.log_at = after

    def engine_container(self) -> str:
        return self.scene.docker.containers(project=self.scene.project, service=f"vllm-{ENGINE}")[0].name

    def counters(self) -> float:
        """Return vLLM's own count of finished requests."""
        text = fetch_in(self.scene.docker, self.engine_container(), "http://127.0.0.1:8000/metrics")
        found = re.findall(r"^vllm:request_success_total\{[^}]*\} ([\d.e+]+)$", text, re.MULTILINE)
        self.collect()
        self.counted_from = len([one for one in self.log if one["side"] == "vllm"])
        return sum(float(value) for value in found)

    def reconcile(self, before: float) -> None:
        """VLLM's own counters must have grown by what the gateway counted."""
        seen = self.counted_from
        increase = self.counters() - before - self.extra_direct
        ours = len([one for one in self.log if one["side"] == "vllm"]) - seen
        self.say(f"vLLM's own /metrics counted {increase:.0f} more requests, the gateway {ours}")
        if increase != ours:
            self.failures.append(f"vLLM counted {increase:.0f} requests, the gateway {ours}")

    def greedy(self) -> None:
        """Greedy answers through the gateway equal those of a direct call to vLLM, word for word."""
        if self.prompts is None:
            return
        prompts = [line for line in self.prompts.read_text(encoding="utf-8").splitlines() if line.strip()]
        different = 0
        for prompt in prompts:
            body = {"model": MODEL, "messages": [{"role": "user", "content": prompt}], "temperature": 0,
                    "max_tokens": 24}
            answer = httpx.post(f"{self.scene.url}/v1/chat/completions", json=body, timeout=120, trust_env=False)
            url = "http://127.0.0.1:8000/v1/chat/completions"
            direct = json.loads(fetch_in(self.scene.docker, self.engine_container(), url, body))
            same = answer.json()["choices"][0]["message"]["content"] == direct["choices"][0]["message"]["content"]
            different += not same
        self.extra_direct = len(prompts)
        self.say(f"{len(prompts)} greedy answers through the gateway: {different} differ from direct calls")
        if different:
            self.failures.append(f"{different} of {len(prompts)} greedy answers differ from direct calls to vLLM")

    # -- showing ------------------------------------------------------------------------------------------

    def show(self, seconds: float) -> int:
        clients = self.scene.answers()
        journal = Journal(self.stack / ".state", create=False)
        moved = next(entry for entry in journal.entries("outcome") if "swap" in entry.data)
        swap = moved.data["swap"]
        self.swapped = figures.Phase("  of it: port swap", moved.at - moved.data["seconds"], moved.at)
        changes = [{**entry.data, "text": entry.text} for entry in journal.entries("weights")]
        self._table(clients, swap)
        for text, delay in figures.reaction(changes, self.log):
            shown = "no request since" if delay is None else f"{delay * 1000:.0f} ms"
            self.out.print(f"  weight {text}: first request routed by it after {shown}")
        last = figures.last_on_vllm(self.log, *self.rollback)
        shown = "there was none" if last is None else f"{last * 1000:.0f} ms"
        self.out.print(f"  from the rollback command to the last new request on vLLM: {shown}")
        lost = [one for one in clients if one["outcome"] != "complete"]
        if lost:
            self.failures.append(f"{len(lost)} requests were not complete, such as: {lost[0]}")
        if swap["cut"] or swap["gap_s"] >= 2:
            self.failures.append(f"the port swap cut {swap['cut']} streams, gap {swap['gap_s']} s")
        if len(clients) < NEEDED[self.scene.engine]:
            self.failures.append(f"only {len(clients)} requests")
        for failure in self.failures:
            self.out.print(f"[red]✗ {failure}[/red]")
        if not self.failures:
            self.out.print(f"[green]✓ {len(clients)} requests, all complete, in {seconds:.0f} s[/green]")
        return 1 if self.failures else 0

    def _table(self, clients: list[dict[str, Any]], swap: dict[str, Any]) -> None:
        shown = Table(title="Requests by phase: outcomes as the clients saw them, sides as the gateway saw them",
                      title_justify="left")
        for heading in ("phase", "requests", "complete", "in-band error", "truncated", "refused", "Ollama", "vLLM"):
            shown.add_column(heading, justify="left" if heading == "phase" else "right", no_wrap=True)
        for row in figures.table(self.phases, clients, self.log):
            shown.add_row(*row)
            if row[0] == "deploy":
                shown.add_row(*figures.swap_row(self.swapped, clients), style="cyan")
        self.out.print(shown)
        self.out.print(
            f"  port swap ({swap['mode']}): waited for {swap['waited_streams']} streams, cut {swap['cut']}, "
            f"refused {swap['refused']}; longest gap {swap['gap_s'] * 1000:.0f} ms"
        )

    def keep(self) -> None:
        """Keep the raw records, so that every number can be computed again."""
        record = {"phases": [vars(phase) for phase in self.phases], "rollback": self.rollback}
        (self.scene.folder / "phases.json").write_text(json.dumps(record, indent=1), encoding="utf-8")
        lines = "".join(json.dumps(one) + "\n" for one in self.log)
        (self.scene.folder / "gateway.jsonl").write_text(lines, encoding="utf-8")
        self.say(f"raw records: {near(self.scene.folder)}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--engine", choices=sorted(NEEDED), default="standin")
    parser.add_argument("--prompts", type=Path, help="one prompt a line, compared through the gateway and directly")
    parser.add_argument("--folder", type=Path, default=ROOT / "work" / "demo")
    given = parser.parse_args()
    if given.prompts and not given.prompts.is_file():
        print(f"there is no file {given.prompts}", file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, lambda *_: (_ for _ in ()).throw(KeyboardInterrupt()))
    shutil.rmtree(given.folder, ignore_errors=True)
    demo = Demo(given.engine, given.folder, given.prompts)
    try:
        return demo.play()
    except MigrateError as error:
        print(f"\nthe demonstration failed: {error.message}\n{error.evidence}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nstopped; cleaning up", file=sys.stderr)
        return 130
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        demo.scene.clear()


if __name__ == "__main__":
    sys.exit(main())
