"""The JSON Schemas fit what the commands answer and what they read, and say no to what does not."""

from __future__ import annotations

import copy
import dataclasses
import json
import os
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from cli_stage import MODEL, migrate, ollama
from decide_cases import cases, read
from plan_cases import facts
from test_planning import decided

from orchestrator import savedplan
from orchestrator.commands import plan_report
from orchestrator.commands.schema_forms import NAMES, form_of
from orchestrator.decide import composecheck, preflight
from orchestrator.errors import UsageError
from orchestrator.observe import factsfile
from orchestrator.plan import plan_up
from orchestrator.rendering import dataschema
from orchestrator.spec import parse_spec
from orchestrator.state import fold
from orchestrator.workspace import Workspace

ROOT = Path(__file__).resolve().parents[2]
STACKS = sorted((ROOT / "stacks").glob("*/migrate.yaml"))
PLANS = [path for path in cases("plan") if "refused" not in read(path)["expect"]]
CHECKERS = {name: jsonschema.Draft202012Validator(form_of(name)) for name in NAMES}


def check(name: str, data: dict[str, Any]) -> None:
    """Through JSON and back, as a reader gets it; nothing that the schema does not describe may be there."""
    whole = json.loads(json.dumps({"schema": 1, **data}))
    problems = [f"{'/'.join(map(str, one.absolute_path))}: {one.message}" for one in CHECKERS[name].iter_errors(whole)]
    assert problems == []
    assert set(whole) <= set(form_of(name)["properties"])


def answer(case: dict[str, Any]) -> dict[str, Any]:
    planned, seen = decided(case), facts(case)
    if planned.spec is None:
        return plan_report.stays_data(planned, seen)
    steps = plan_up(planned.spec, fold([], {}, ()))
    return plan_report.data(plan_report.Shown(Workspace(Path("stacks/case")), planned, seen, steps, checked=False))


@pytest.mark.parametrize("name", NAMES)
def test_each_is_a_schema(name: str) -> None:
    form = form_of(name)
    jsonschema.Draft202012Validator.check_schema(form)
    assert json.loads(json.dumps(form)) == form
    wanted = set(re.findall(r'"#/\$defs/([^"]+)"', json.dumps(form)))
    assert wanted == set(form.get("$defs", {}))


@pytest.mark.parametrize("path", PLANS, ids=lambda path: path.stem)
def test_every_plan_fits(path: Path) -> None:
    check("plan", answer(read(path)))


@pytest.mark.parametrize("path", cases("plan"), ids=lambda path: path.stem)
def test_every_facts_fit(path: Path) -> None:
    whole = json.loads(factsfile.dumps(facts(read(path))))
    check("facts", whole)
    assert factsfile.loads(json.dumps(whole)) == facts(read(path))


def test_both_shapes_of_a_plan_are_among_the_cases() -> None:
    shapes = {answer(read(path))["stack"] is None for path in PLANS}
    assert shapes == {True, False} or "MIGRATE_CASES" in os.environ


@pytest.mark.parametrize("key", ["schema", "verdict", "reasons", "gpus", "engines", "eta", "plan", "traffic"])
def test_a_plan_without_a_key_is_refused(key: str) -> None:
    whole = next({"schema": 1, **one} for one in map(answer, map(read, PLANS)) if one["stack"])
    assert CHECKERS["plan"].is_valid(json.loads(json.dumps(whole)))
    del whole[key]
    assert not CHECKERS["plan"].is_valid(json.loads(json.dumps(whole)))


def test_a_plan_of_wrong_types_is_refused() -> None:
    whole = next({"schema": 1, **one} for one in map(answer, map(read, PLANS)) if one["stack"])
    whole = json.loads(json.dumps(whole))
    for place, wrong in ((("verdict",), "perhaps"), (("schema",), 2), (("plan", "steps", 0, "kind"), 3),
                         (("engines",), []), (("eta", 0, "low_s"), "1"), (("hours_lost_per_week",), "3")):  # fmt: skip
        bad = copy.deepcopy(whole)
        inner = bad
        for key in place[:-1]:
            inner = inner[key]
        inner[place[-1]] = wrong
        assert not CHECKERS["plan"].is_valid(bad), place


@pytest.mark.parametrize("path", cases("compose"), ids=lambda path: path.stem)
def test_every_reading_of_a_compose_file_fits(path: Path) -> None:
    found = composecheck.check(read(path)["compose"])
    errors = sum(one.severity == "error" for one in found)
    check("doctor", {"file": "x", "findings": [{**dataclasses.asdict(one), "file": "x"} for one in found], "errors": errors})


@pytest.mark.parametrize("path", STACKS, ids=lambda path: path.parent.name)
def test_doctor_and_the_stack_files_fit(path: Path) -> None:
    spec = parse_spec(path.read_text(encoding="utf-8"))
    seen = facts(read(cases("plan")[0]))
    results = preflight.check(seen, spec, preflight.Probes())
    check("doctor", {"checks": [dataclasses.asdict(one) for one in results], "ready": not preflight.failed(results)})
    assert not CHECKERS["doctor"].is_valid({"schema": 1, "ready": True})
    CHECKERS["migrate.yaml"].validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    CHECKERS["migrate.yaml"].validate(spec.model_dump(mode="json"))


@pytest.mark.parametrize("text", sorted({path.read_text(encoding="utf-8") for path in STACKS})[:2])
@pytest.mark.parametrize(
    ("place", "value", "fits"),
    [
        (("cutover", "bake"), "90s", True), (("cutover", "bake"), 90, True), (("cutover", "bake"), "soon", False),
        (("cutover", "bake"), -1, False), (("cutover", "steps"), [10, 100], True), (("gateway", "port"), 0, False),
        (("gateway", "portt"), 1, False), (("name",), "Not A Name", False), (("version",), 2, False),
        (("needs", "users"), 3, True), (("accelerator",), "tpu", False),
    ],
)  # fmt: skip
def test_the_stack_file_is_judged_as_migrate_judges_it(text: str, place: tuple[str, ...], value: Any, fits: bool) -> None:
    data = yaml.safe_load(text)
    inner = data
    for key in place[:-1]:
        inner = inner.setdefault(key, {})
    inner[place[-1]] = value
    assert CHECKERS["migrate.yaml"].is_valid(data) == fits
    try:
        parse_spec(yaml.safe_dump(data))
    except UsageError:
        assert not fits
    else:
        assert fits


@pytest.mark.parametrize("size", ["4GiB", "500 MiB", "3gb", "12", 5, "4 G", "x", "-1", -1, "1.5GiB"])
def test_sizes_are_judged_alike(size: Any) -> None:
    data = yaml.safe_load(STACKS[0].read_text(encoding="utf-8"))
    next(iter(data["engines"].values()))["kv_cache"] = size
    try:
        parse_spec(yaml.safe_dump(data))
        right = True
    except UsageError:
        right = False
    assert CHECKERS["migrate.yaml"].is_valid(data) == right


def test_the_commands_themselves(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text('URL = "http://localhost:11434/api/chat"\n', encoding="utf-8")
    scanned = json.loads(migrate(tmp_path, "scan", ".", "--json").stdout)
    assert scanned["callers"]
    check("scan", scanned)
    with ollama() as url:
        written = migrate(tmp_path, "plan", "--ollama", url, "--model", MODEL, "--cpu", "--json", "--out", "kept.json",
                          HF_HUB_OFFLINE="1")  # fmt: skip
        check("plan", json.loads(written.stdout))
        check("facts", json.loads(migrate(tmp_path, "facts", "--ollama", url).stdout))
        stays = migrate(tmp_path, "plan", "--ollama", url, "--stack", "other", "--json")
        assert json.loads(stays.stdout)["stack"] is None
        check("plan", json.loads(stays.stdout))
    CHECKERS["plan-file"].validate(json.loads((tmp_path / "kept.json").read_text(encoding="utf-8")))
    CHECKERS["migrate.yaml"].validate(yaml.safe_load((tmp_path / "stacks" / "main" / "migrate.yaml").read_text(encoding="utf-8")))
    savedplan.load(tmp_path / "kept.json")
    check("doctor", json.loads(migrate(tmp_path, "doctor", "--json", "--stack", "main", HF_HUB_OFFLINE="1").stdout))
    wrong = migrate(tmp_path, "plan", "--ollama", "nonsense", "--json")
    check("error", json.loads(wrong.stderr.splitlines()[-1]))
    assert wrong.returncode == json.loads(wrong.stderr.splitlines()[-1])["exit_code"]


def test_the_command_prints_them(tmp_path: Path) -> None:
    for name in NAMES:
        done = migrate(tmp_path, "schema", name)
        assert (done.returncode, json.loads(done.stdout)) == (0, form_of(name))
    wrong = migrate(tmp_path, "schema", "nonsense")
    assert wrong.returncode == 2
    assert all(name in wrong.stderr for name in NAMES)


def test_the_document_names_every_key_of_a_plan() -> None:
    text = (ROOT / "docs" / "plan.md").read_text(encoding="utf-8")
    rows = "".join(line.split("|")[1] for line in text.splitlines() if line.startswith("| `"))
    assert set(re.findall(r"`([\w]+)`", rows)) == set(form_of("plan")["properties"])


def test_a_type_without_a_form_is_told() -> None:
    with pytest.raises(TypeError, match="no form"):
        dataschema.of(set[str], {})


@dataclasses.dataclass
class Tree:
    name: str
    inner: tuple[Any, ...] = ()
    span: tuple[float, str] = (0.0, "")
    under: dict[str, int | None] = dataclasses.field(default_factory=dict)


def test_a_dataclass_becomes_an_object() -> None:
    defs: dict[str, Any] = {}
    assert dataschema.of(tuple[Tree, ...], defs) == {"type": "array", "items": {"$ref": "#/$defs/Tree"}}
    assert defs["Tree"]["required"] == ["name", "inner", "span", "under"]
    assert defs["Tree"]["properties"]["span"] == {
        "type": "array", "prefixItems": [{"type": "number"}, {"type": "string"}], "minItems": 2, "maxItems": 2,
    }  # fmt: skip
    assert "description" not in defs["Tree"]    # what a dataclass says of itself by default is no description
