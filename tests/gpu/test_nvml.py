"""What NVML is asked, and what comes of it: the real binding, on a stand-in library that reads the ledger."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from orchestrator.standin.ledger import Ledger

ROOT = Path(__file__).resolve().parents[2]
GIB = 2**30
DRIVER_NOT_LOADED = "9"
CASES = Path(os.environ.get("MIGRATE_CASES", ROOT / "tests" / "cases")) / "nvml"
ASK = """
import dataclasses, json
from orchestrator.clients.gpu import look
print(json.dumps(dataclasses.asdict(look())))
"""


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("nvml")
    subprocess.run([sys.executable, ROOT / "tests/gpu/nvml/build.py", folder], check=True)
    return folder


@pytest.fixture
def ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ledger:
    monkeypatch.setenv("STANDIN_LEDGER", str(tmp_path))
    monkeypatch.setenv("STANDIN_GPUS", "0:24GiB=NVIDIA GeForce RTX 4090,1:80GiB=NVIDIA H100 80GB HBM3")
    found = Ledger.from_env("somebody")
    assert found is not None
    return found


def look(library: Path, **environment: str) -> dict[str, Any]:
    """Ask in a process of its own: a library, once loaded, stays."""
    done = subprocess.run(
        [sys.executable, "-c", ASK], cwd=ROOT, capture_output=True, text=True, check=False,
        env={**os.environ, "LD_LIBRARY_PATH": str(library), **environment},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def test_two_gpus_with_what_is_free_of_each(library: Path, ledger: Ledger) -> None:
    ledger.allocate("1", 5 * GIB, "llama3.1:8b")
    ledger.allocate("1", 2 * GIB, "cache")
    seen = look(library)
    ledger.close()
    known = ledger.gpus()
    assert seen["problem"] == ""
    assert seen["driver"] == "580.95.05"
    assert [one["uuid"] for one in seen["gpus"]] == [one.uuid for one in known]
    assert [(one["index"], one["name"], one["total"], one["free"], one["processes"]) for one in seen["gpus"]] == [
        ("0", "NVIDIA GeForce RTX 4090", 24 * GIB, 24 * GIB, 0),
        ("1", "NVIDIA H100 80GB HBM3", 80 * GIB, 73 * GIB, 2),
    ]
    assert {one["compute_capability"] for one in seen["gpus"]} == {8.9}


def test_memory_of_the_dead_is_free_again(library: Path, ledger: Ledger, tmp_path: Path) -> None:
    ledger.allocate("0", 6 * GIB, "llama3.1:8b")
    ledger.close()
    state = json.loads((tmp_path / "ledger.json").read_text())
    state["allocations"] = [{"owner": "gone", "label": "x", "gpu": "0", "bytes": 6 * GIB, "heartbeat": 1.0}]
    (tmp_path / "ledger.json").write_text(json.dumps(state))
    assert look(library)["gpus"][0]["free"] == 24 * GIB


def test_compute_capability_has_two_numbers(library: Path, ledger: Ledger) -> None:
    ledger.gpus()
    assert look(library, STANDIN_NVML_CAPABILITY="12.0")["gpus"][0]["compute_capability"] == 12.0


def test_a_driver_without_a_gpu(library: Path, tmp_path: Path) -> None:
    seen = look(library, STANDIN_LEDGER=str(tmp_path))
    assert (seen["gpus"], seen["problem"]) == ([], "NVML answers, but there is no GPU")


def test_a_driver_that_does_not_answer(library: Path) -> None:
    seen = look(library, STANDIN_NVML_ERROR=DRIVER_NOT_LOADED)
    assert seen["gpus"] == []
    assert seen["problem"] == "the NVIDIA driver does not answer: Driver Not Loaded"


def test_a_driver_that_was_updated_beneath_its_module(library: Path) -> None:
    assert "restart the machine" in look(library, STANDIN_NVML_ERROR="18")["problem"]


def test_no_driver(tmp_path: Path) -> None:
    (tmp_path / "libnvidia-ml.so.1").write_text("not a library")     # hides a real one
    seen = look(tmp_path)
    assert seen["gpus"] == []
    assert seen["problem"] == "no NVIDIA driver on this machine (libnvidia-ml.so.1 is missing)"


@pytest.mark.parametrize("path", sorted(CASES.glob("*.yaml")), ids=lambda path: path.stem)
def test_a_driver_and_its_gpus(library: Path, ledger: Ledger, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    case = yaml.safe_load(path.read_text(encoding="utf-8"))
    monkeypatch.setenv("STANDIN_GPUS", case["gpus"])
    ledger.gpus()
    seen = look(library, STANDIN_NVML=case["nvml"], STANDIN_NVML_CAPABILITY=str(case.get("capability", "")))
    wanted = case["expect"]
    got = [{key: one[key] for key in want} for one, want in zip(seen["gpus"], wanted["gpus"], strict=True)]
    assert got == wanted["gpus"]
    if "notes" in wanted:
        assert len(seen["notes"]) == len(wanted["notes"]), seen["notes"]
        assert all(map(re.search, wanted["notes"], seen["notes"])), seen["notes"]
    assert {key: seen[key] for key in ("driver", "cuda") if key in wanted} == {
        key: wanted[key] for key in ("driver", "cuda") if key in wanted}
    assert wanted.get("problem", "") in seen["problem"]
    assert bool(seen["problem"]) == (not seen["gpus"])
