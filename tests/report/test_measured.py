"""Every check measured on the stand-ins, kept as the gates keep it: the report of it is recomputed to the letter."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import pytest
from report_run import MODEL, ROOT, make_run
from test_report import data, migrate

from orchestrator.checks import Side, load, parity, rendering, vectors
from orchestrator.checks.answers.ask import Manner
from orchestrator.checks.answers.suites import load_suites
from orchestrator.checks.answers.terms import Terms
from orchestrator.checks.answers.whole import measure_parity
from orchestrator.checks.contract import check_contract
from orchestrator.checks.contract import recompute as contract
from orchestrator.checks.loadplan import LoadPlan, closed_levels
from orchestrator.checks.parity_rules import Terms as SmokeTerms
from orchestrator.checks.prompts import load_prompts
from orchestrator.journal import Journal
from orchestrator.steps.evidence import keep_raw


def servers():
    name = "report_servers"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, ROOT / "tests" / "conformance" / "servers.py")
        assert spec
        assert spec.loader
        sys.modules[name] = module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    return sys.modules[name]


@pytest.fixture(scope="module")
def sides(tmp_path_factory) -> Iterator[tuple[Side, Side]]:
    old = servers().ollama(tmp_path_factory.mktemp("models"))
    new = servers().vllm("repo/model-8b", "--served-model-name", MODEL)
    yield Side("ollama", old.url), Side("vllm", new.url)
    old.stop()
    new.stop()


def test_vectors_are_shown_and_need_no_load_test(tmp_path):
    folder = make_run(tmp_path / "mine", stage="plan")
    lines = [{"kind": "plan", "check": "vectors", "target": MODEL, "least": 0.99}] + [
        {"kind": "vector", "side": side, "input": text, "vector": [1.0, n, 0.5 if side == "vllm" else 0.51]}
        for n, text in enumerate(("one", "two <b>", "three", "one")) for side in ("ollama", "vllm")
    ]  # fmt: skip
    raw = keep_raw(folder / "report" / "vectors-x.jsonl", map(json.dumps, lines))
    assert raw
    kept = {"schema": 1, "at": 1.79e9, **vectors.recompute(lines).to_json(), "raw": asdict(raw)}
    (folder / "report" / "vectors-x.json").write_text(json.dumps(kept), encoding="utf-8")
    assert migrate("report", folder / "migrate.yaml").returncode == 0
    report = data(folder / "report")
    assert [one["kind"] for one in report["answers"]] == ["vectors"]
    assert report["answers"][0]["pairs"][0]["cosine"] > 0.9999
    assert set(report["missing"]) == {"live"}
    assert "two &lt;b&gt;" in (folder / "report" / "report.html").read_text(encoding="utf-8")
    assert migrate("verify", folder / "report").returncode == 0


def measured(sides: tuple[Side, Side]) -> Iterator[tuple[str, list[dict]]]:
    _, lines = rendering.check_rendering(*sides, MODEL)
    yield "rendering", lines
    _, lines = check_contract(*sides, MODEL)
    yield "contract", lines
    suite, notes = load_suites(("builtin",), Path(), MODEL)
    yield "parity", measure_parity(
        *sides, MODEL, prompts=load_prompts(), suite=suite[:12], smoke=SmokeTerms(MODEL), terms=Terms(),
        manner=Manner(32, 1, 1, 4, 30.0), notes=notes,
    )  # fmt: skip
    plan = LoadPlan(sides, MODEL, closed_levels((1, 4), 1), max_tokens=4, warmup=1)
    yield "load", [json.loads(line) for line in load.run_load(plan).lines()]


def test_what_was_measured_is_recomputed_to_the_letter(sides, tmp_path):
    folder = make_run(tmp_path / "mine", stage="plan")
    journal = Journal(folder / ".state")
    judges = {"rendering": rendering.recompute, "contract": contract, "parity": parity.recompute, "load": load.recompute}
    for check, lines in measured(sides):
        verdict = judges[check](lines)
        raw = keep_raw(folder / "report" / f"{check}-x.jsonl", map(json.dumps, lines))
        assert raw
        kept = {"schema": 1, "at": 1.79e9, **verdict.to_json(), "raw": asdict(raw)}
        (folder / "report" / f"{check}-x.json").write_text(json.dumps(kept), encoding="utf-8")
        journal.append("verdict", f"{check} {MODEL}", verdict.result, {"summary": verdict.summary, "raw": asdict(raw)})
    journal.close()
    assert migrate("report", folder / "migrate.yaml").returncode == 0
    done = migrate("verify", folder / "report")
    assert (done.returncode, done.stderr) == (0, "")
    assert all(f"{check} {MODEL}" in done.stdout for check in judges)
    report = data(folder / "report")
    assert {one["check"] for one in report["surfaces"]} == {"rendering", "contract"}
    assert report["surfaces"][0]["count"] > 2
    assert report["answers"][0]["count"] > 10
    assert [level["label"] for level in report["loads"][0]["levels"]] == ["1 user", "4 users"]
