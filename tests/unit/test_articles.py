"""Every statement of the articles that people read first has an answer, and the proof of it is there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
CASES = ROOT / "tests" / "cases"
ROWS: dict[str, list[dict[str, Any]]] = yaml.safe_load((ROOT / "docs" / "articles.yaml").read_text(encoding="utf-8"))
CITED = yaml.safe_load((ROOT / "orchestrator" / "data" / "cited.yaml").read_text(encoding="utf-8"))
ALL = [(source, row) for source, rows in ROWS.items() for row in rows]
_TESTS = ("unit", "integration", "gateway", "engines", "conformance", "gpu", "clients")


def followed(proof: str, source: str) -> bool:
    """Tell whether a proof leads somewhere: a case with expectations, a test, a citation, words of the README."""
    kind, _, rest = proof.partition("/")
    if proof.startswith("README:"):
        return proof.removeprefix("README:") in (ROOT / "README.md").read_text(encoding="utf-8")
    if kind == "cited":
        table, _, key = rest.partition("/")
        named = {"thresholds": "id", "figures": "what", "settings": "text"}[table]
        return any(one[named] == key and one["source"] == source for one in CITED[table])
    if kind in _TESTS:
        path, _, name = rest.partition("::")
        file = ROOT / "tests" / kind / path
        return file.is_file() and bool(re.search(rf"def {name or 'test_'}", file.read_text(encoding="utf-8")))
    file = CASES / kind / f"{rest}.yaml"
    return file.is_file() and "expect" in yaml.safe_load(file.read_text(encoding="utf-8"))


@pytest.mark.parametrize(("source", "row"), ALL, ids=[f"{source}: {row['says'][:50]}" for source, row in ALL])
def test_every_statement_has_an_answer_whose_proof_is_there(source: str, row: dict[str, Any]) -> None:
    assert row["answer"] in ("yes", "other", "no")
    assert row["how"], "an answer without a because"
    assert row["proof"]
    assert [proof for proof in row["proof"] if not followed(proof, source)] == []


def test_no_proof_is_taken_for_granted() -> None:
    for wrong in ("plan/not-there", "unit/test_load.py::test_not_there", "cited/figures/not there", "README:qqq zzz"):
        assert not followed(wrong, "S0")
    assert not followed("cited/figures/cold start", "S1")     # said by another article


def test_every_article_is_followed_and_no_citation_is_left_out() -> None:
    assert set(ROWS) == set(CITED["sources"])
    assert {one["source"] for table in ("thresholds", "figures", "settings") for one in CITED[table]} <= set(ROWS)
    statements = [row["says"] for _, row in ALL]
    assert len(statements) == len(set(statements))
