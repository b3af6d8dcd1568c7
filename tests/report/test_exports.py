"""A load test for other tools: the same requests, and files that these tools take."""

from __future__ import annotations

import ast
import csv
import io
import json
import sys
from types import ModuleType, SimpleNamespace
from typing import Any, Self

import pytest
import yaml
from report_run import MODEL, make_run
from typer.testing import CliRunner

from orchestrator.checks import Side
from orchestrator.checks.loadplan import LoadPlan, closed_levels
from orchestrator.checks.loadshape import Level, open_level
from orchestrator.cli import app
from orchestrator.errors import UsageError
from orchestrator.report import exports
from orchestrator.report.source import lines_of

BASE = "http://gateway:11434"
OPEN = (open_level("constant", 3, 20), open_level("poisson", 2.5, 20), open_level("ramp", 1, 20, 5))


def plan(*levels: Level, **changes: Any) -> LoadPlan:
    return LoadPlan((Side("ollama", "x"), Side("vllm", "y")), MODEL, levels or closed_levels((1, 5), 4), **changes)


def requests(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


@pytest.mark.parametrize("tool", [exports.k6, exports.locust])
def test_the_requests_are_those_that_migrate_sends(tool):
    asked = plan()
    found = requests(tool(asked, BASE)[exports.REQUESTS])
    assert [one["level"] for one in found] == ["1 user"] * 10 + ["5 users"] * 60
    assert found[0]["body"] == json.loads(asked.body("1 user/0/0"))
    assert found[-1]["body"] == json.loads(asked.body("5 users/0/59"))


def test_k6_has_an_executor_for_each_shape():
    script = exports.k6(plan(*closed_levels((2,), 4), *OPEN), BASE)["load.k6.js"]
    levels = json.loads(script.split("const LEVELS = ")[1].split(";\n")[0])
    assert {name: one["executor"] for name, one in levels.items()} == {
        "2 users": "shared-iterations", "3/s": "constant-arrival-rate", "2.5/s poisson": "constant-arrival-rate",
        "1 to 5/s": "ramping-arrival-rate",
    }  # fmt: skip
    assert levels["2 users"] | {"maxDuration": ""} == {
        "executor": "shared-iterations", "vus": 2, "iterations": 60, "maxDuration": ""}  # fmt: skip
    assert (levels["2.5/s poisson"]["rate"], levels["2.5/s poisson"]["timeUnit"]) == (150, "1m")


def test_guidellm_has_each_level_as_a_benchmark():
    files = exports.guidellm(plan(*closed_levels((1, 5), 4), OPEN[1], slo={"ttft": 500.0}), BASE)
    assert set(files) == {"guidellm-concurrent.yaml", "guidellm-poisson.yaml"}
    found = yaml.safe_load(files["guidellm-concurrent.yaml"])
    assert found["benchmarks"] == [{"profile.streams": [1], "constraints[0].count": 10},
                                   {"profile.streams": [5], "constraints[0].count": 60}]  # fmt: skip
    assert found["spec"]["backend"]["target"] == BASE
    assert found["spec"]["metrics"]["slo"] == {"ttft_ms": 500.0}
    assert len(found["spec"]["data"][0]["data"]) == 60


def test_captured_traffic_is_never_written_down():
    with pytest.raises(UsageError, match="k6 has no such levels"):
        exports.k6(plan(Level(0, 10, "replay", 1.0)), BASE)


@pytest.mark.parametrize("name", ['a"""\nimport os', "b\n*/ x", "c`$(reboot)`"])
def test_a_name_cannot_end_a_comment(name):
    asked = LoadPlan(plan().sides, name, closed_levels((1,), 1))
    head = exports.k6(asked, BASE)["load.k6.js"].split("import http")[0]
    assert all(line.startswith("//") for line in head.splitlines())
    tree = ast.parse(exports.locust(asked, BASE)["locustfile.py"])
    assert "os" in {one.names[0].name for one in tree.body if isinstance(one, ast.Import)}
    assert len([one for one in tree.body if isinstance(one, ast.Import)]) == 4
    file = exports.guidellm(asked, BASE)["guidellm-concurrent.yaml"]
    assert yaml.safe_load(file)["spec"]["backend"]["model"] == name


class Answer:
    """What a stream of two tokens looks like to locust."""

    status_code = 200

    def __init__(self, *lines: bytes) -> None:
        self.lines, self.said = lines, ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def iter_lines(self, chunk_size: object) -> tuple[bytes, ...]:
        return self.lines

    def success(self) -> None:
        self.said = "success"

    def failure(self, why: str) -> None:
        self.said = why


TOKEN = b'data: {"choices": [{"delta": {"content": "a"}}]}'
ROLE = b'data: {"choices": [{"delta": {"role": "assistant", "content": ""}}]}'


@pytest.mark.parametrize(
    "lines, said, told",
    [
        ((ROLE, TOKEN, b"data: [DONE]"), "success", ["1 user: answer", "1 user: first token"]),
        ((ROLE, b"data: [DONE]"), "success", ["1 user: answer"]),
        ((TOKEN,), "the answer broke off", ["1 user: answer", "1 user: first token"]),
    ],
)
def test_the_locustfile_sends_each_level_and_times_the_first_token(tmp_path, monkeypatch, lines, said, told):
    locust = ModuleType("locust")
    locust.HttpUser = locust.LoadTestShape = object
    locust.constant, locust.task = (lambda _: None), (lambda one: one)
    monkeypatch.setitem(sys.modules, "locust", locust)
    for name, text in exports.locust(plan(*closed_levels((1,), 1)), BASE).items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    space: dict[str, Any] = {"__file__": str(tmp_path / "locustfile.py"), "__name__": "locustfile"}
    exec(compile((tmp_path / "locustfile.py").read_text(), "locustfile.py", "exec"), space)
    answer, heard, posted = Answer(*lines), [], []
    user = space["Caller"]()
    user.client = SimpleNamespace(post=lambda path, **what: posted.append((path, what)) or answer)
    user.environment = SimpleNamespace(events=SimpleNamespace(
        request=SimpleNamespace(fire=lambda **what: heard.append(what))))  # fmt: skip
    user.ask()
    assert answer.said == said
    assert [one["name"] for one in heard] == told
    assert posted[0][0] == "/v1/chat/completions"
    assert json.loads(posted[0][1]["data"])["model"] == MODEL
    for _ in range(59):
        user.ask()
    assert len(posted) == 60
    assert space["Levels"]().tick() is None     # every request has ended


@pytest.fixture(scope="module")
def stack(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("exports") / "mine", stage="up", users=(1, 2))


def export(stack, out, *flags):
    return CliRunner().invoke(app, ["export", "load", "--file", str(stack), "--out", str(out), *flags])


@pytest.mark.parametrize("form", ["csv", "jsonl", "html", "k6", "locust", "guidellm"])
def test_each_format_is_written_and_nothing_else(stack, tmp_path, form):
    for _ in range(2):      # again: the same files
        done = export(stack, tmp_path / "out", "--format", form)
        assert done.exit_code == 0, done.output
    assert {path.suffix for path in (tmp_path / "out").iterdir()} <= {".csv", ".jsonl", ".html", ".js", ".py", ".yaml"}


def test_the_table_has_a_row_for_each_request(stack, tmp_path):
    export(stack, tmp_path, "--format", "csv")
    raw, _ = lines_of(next((stack / "report").glob("load-*.jsonl")))
    sent = [one for one in raw if one["kind"] == "request"]
    rows = list(csv.DictReader(io.StringIO(next(tmp_path.glob("*-requests.csv")).read_text(encoding="utf-8"))))
    assert len(rows) == len(sent)
    assert float(rows[0]["ttft_ms"]) == round(sent[0]["token_us"][0] / 1000, 3)
    levels = csv.DictReader(io.StringIO(next(tmp_path.glob("*-levels.csv")).read_text(encoding="utf-8")))
    assert {(one["side"], one["level"]) for one in levels} == {(one["side"], one["level"]) for one in sent}
    assert float(rows[0]["e2e_ms"]) == round(sent[0]["last_us"] / 1000, 3)


def test_an_engines_message_is_no_formula():
    text = exports.table([{"kind": "request", "side": "vllm", "error": "=HYPERLINK(1)", "token_us": [], "last_us": None}])
    assert next(csv.DictReader(io.StringIO(text)))["error"] == "'=HYPERLINK(1)"


@pytest.mark.parametrize("flags, words", [
    ((), "as what?"), (("--format", "xls"), "known: csv"), (("--format", "k6", "--model", "none:1"), "no load test of"),
])  # fmt: skip
def test_what_cannot_be_is_said(stack, tmp_path, flags, words):
    done = export(stack, tmp_path, *flags)
    assert done.exit_code == 2
    assert words in done.output
    assert not list(tmp_path.iterdir())


def test_the_scenario_can_be_had_before_any_test(tmp_path):
    folder = make_run(tmp_path / "mine", stage="plan")
    assert export(folder, tmp_path / "out", "--format", "k6").exit_code == 0
    done = export(folder, tmp_path / "out", "--format", "csv")
    assert done.exit_code == 2
    assert "migrate up" in done.output
