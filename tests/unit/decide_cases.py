"""Reads the data cases; MIGRATE_CASES points to another folder."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import yaml

from orchestrator.facts import Facts, Gpu, Loaded, Model, OllamaContainer, OllamaFacts, Spread, Traffic

ROOT = Path(os.environ.get("MIGRATE_CASES", Path(__file__).parent.parent / "cases"))
_UNITS = {"MiB": 2**20, "GiB": 2**30}


def cases(kind: str) -> list[Path]:
    return sorted((ROOT / kind).glob("*.yaml"))


def read(path: Path) -> dict[str, Any]:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def model(data: dict[str, Any]) -> Model:
    lists = {key: tuple(data[key]) for key in ("capabilities", "messages") if key in data}
    return Model(**{**data, **lists})


def gpu(index: int, text: str) -> Gpu:
    """`24GiB cc8.9 used2GiB`."""
    sizes = {word: int(number) * _UNITS[unit] for word, number, unit in re.findall(r"(used)?(\d+)(MiB|GiB)", text)}
    capability = float(re.search(r"cc([\d.]+)", text)[1])
    total = sizes[""]
    return Gpu(str(index), f"GPU-{index}", "test", total, total - sizes.get("used", 0), capability)


def facts(data: dict[str, Any]) -> Facts:
    container = OllamaContainer(
        name="ollama", id="", image="ollama/ollama:0.32.6", listen="127.0.0.1", port=11434,
        env=data.get("env", {}), volumes=("ollama:/root/.ollama",), gpus=tuple(data.get("ollama_gpus", ("0",))),
    )  # fmt: skip
    ollama = OllamaFacts(
        "http://127.0.0.1:11434", "0.32.6",
        models=tuple(map(model, data["models"])),
        loaded=tuple(Loaded(**item) for item in data.get("loaded", ())),
        container=container,
    )  # fmt: skip
    gpus = tuple(gpu(at, text) for at, text in enumerate(data.get("gpus", ())))
    return Facts(ollama, gpus, traffic=traffic(data.get("traffic", {})))


def traffic(data: dict[str, Any]) -> Traffic:
    spreads = ("concurrency", "latency", "prompt_tokens", "output_tokens")
    return Traffic(**{key: Spread(**value) if key in spreads else value for key, value in data.items()})
