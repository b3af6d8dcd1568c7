"""Drivers as processes that stay: a library is imported once, then asks one side after the other."""

from __future__ import annotations

import json
import os
import select
import subprocess
from pathlib import Path
from typing import Any, Self

PATIENCE_S = 90
HERE = Path(__file__).parent
Json = dict[str, Any]
DRIVERS = {
    "ollama": "ollama_driver.py", "openai": "openai_driver.py", "anthropic": "anthropic_driver.py",
    "langchain-ollama": "langchain_driver.py", "litellm": "litellm_both_driver.py",
    "ollama-js": "js/ollama.mjs", "openai-js": "js/openai.mjs",
}  # fmt: skip
# LiteLLM would fetch a price list, others a tokenizer.
QUIET = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "HF_HUB_OFFLINE": "1", "OPENAI_API_KEY": "any", "ANTHROPIC_API_KEY": "any"}


class Driver:
    """One client's script, running in the environment of the libraries."""

    def __init__(self, name: str, home: Path, log: Path) -> None:
        script = HERE / DRIVERS[name]
        node = [home / "bin" / "node", "--import", script.with_name("home.mjs")]
        program = node if script.suffix == ".mjs" else [home / "bin" / "python"]
        plain = {key: text for key, text in os.environ.items() if not key.lower().endswith("_proxy")}
        self.name, self.log = name, log
        self._errors = log.open("wb")
        self._process = subprocess.Popen(
            [*program, script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, text=True,
            env={**plain, **QUIET, "CLIENTS_HOME": str(home)},
        )  # fmt: skip

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.close()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
        self._errors.close()

    def ready(self) -> None:
        assert self._answer() == "ready"

    def ask(self, told: Json) -> Json:
        """Run every case of the script against the side that `told` names; returns the results by case."""
        assert self._process.stdin
        self._process.stdin.write(json.dumps(told) + "\n")
        self._process.stdin.flush()
        found: Json = self._answer()
        return found

    def _answer(self) -> Any:
        assert self._process.stdout
        # Only whole lines come, so nothing is left in a buffer; a script that hangs shows where in its log.
        able, _, _ = select.select([self._process.stdout], [], [], PATIENCE_S)
        line = self._process.stdout.readline() if able else ""
        assert line, f"{self.name} ended or hangs: {self.log.read_text()[-3000:]}"
        return json.loads(line)
