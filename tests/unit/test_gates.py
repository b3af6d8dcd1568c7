"""What a gate keeps: raw lines before the verdict, and what was left out on whose word."""

from __future__ import annotations

import hashlib
import json
import stat
from types import SimpleNamespace

import pytest

from orchestrator.checks import Verdict
from orchestrator.commands import skips
from orchestrator.errors import Inconclusive, MigrateError, UsageError
from orchestrator.journal import Journal
from orchestrator.spec import parse_spec
from orchestrator.steps import Skip, verify

MODEL = "llama3.1:8b"
SPEC = """
name: late
accelerator: cpu
engines: {one: {repo: org/repo}}
routes: {"llama3.1:8b": {engine: one}}
"""


class Gate(verify.Gate):
    check, groups = "parity", ("tools", "vision")
    result, lines = "pass", ()

    def judge(self):
        self.raw = self.lines
        return Verdict("parity", self.target, self.result, "so it is", {"n": 1})


@pytest.fixture
def context(tmp_path):
    journal = Journal(tmp_path / ".state")
    journal.known({MODEL: True}, ("one",))
    said = []
    return SimpleNamespace(spec=parse_spec(SPEC), dir=tmp_path, journal=journal, skips=(), said=said,
                           say=lambda subject, text, *_, **__: said.append((subject, text)))  # fmt: skip


def gate(context, *lines, result="pass"):
    one = Gate(context, MODEL)
    one.lines, one.result = lines, result
    return one


def verdict(context):
    return json.loads((context.dir / "report" / "parity-llama3.1-8b.json").read_text())


def test_raw_lines_lie_beside_the_verdict_and_are_the_owners_alone(context):
    gate(context, '{"kind": "plan"}', '{"text": "é"}').do()
    path = context.dir / "report" / "parity-llama3.1-8b.jsonl"
    assert path.read_text(encoding="utf-8") == '{"kind": "plan"}\n{"text": "é"}\n'
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    raw = {"file": path.name, "lines": 2, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
    assert verdict(context)["raw"] == raw
    assert context.journal.last("verdict", f"parity {MODEL}").data["raw"] == raw
    assert [one.name for one in sorted(path.parent.iterdir())] == ["parity-llama3.1-8b.json", path.name]


def test_an_older_file_is_replaced_with_its_mode(context):
    path = context.dir / "report" / "parity-llama3.1-8b.jsonl"
    path.parent.mkdir()
    path.write_text("old\n")
    path.chmod(0o644)
    gate(context, "{}").do()
    assert path.read_text() == "{}\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_lines_of_an_older_verdict_do_not_stay(context):
    gate(context, "{}").do()
    gate(context).do()
    assert not (context.dir / "report" / "parity-llama3.1-8b.jsonl").exists()
    assert verdict(context)["raw"] is None


def test_they_are_written_before_a_verdict_that_stops_the_command(context):
    with pytest.raises(Inconclusive):
        gate(context, "{}", result="inconclusive").do()
    assert (context.dir / "report" / "parity-llama3.1-8b.jsonl").exists()


def test_lines_that_break_off_leave_the_old_evidence_alone(context):
    gate(context, '{"n": 1}').do()

    def breaking():
        yield "half"
        raise MigrateError("broke off")

    one = Gate(context, MODEL)
    one.lines = breaking()
    with pytest.raises(MigrateError, match="broke off"):
        one.do()
    assert (context.dir / "report" / "parity-llama3.1-8b.jsonl").read_text() == '{"n": 1}\n'
    assert verdict(context)["raw"]["lines"] == 1
    assert list(context.dir.glob("report/*.tmp")) == []


def test_a_folder_that_cannot_be_written_is_an_error_with_a_hint(context):
    (context.dir / "report").write_text("a file")
    with pytest.raises(MigrateError, match=r"cannot write .*parity-llama3.1-8b\.jsonl") as caught:
        gate(context, "{}").do()
    assert "writable" in caught.value.hint


def test_what_is_left_out_is_in_the_journal_the_evidence_and_on_the_screen(context):
    context.skips = (Skip("vision", "no picture is sent"), Skip("other", "of another check"))
    one = gate(context)
    assert one.skipped() == {"vision": "no picture is sent"}
    one.do()
    entry = context.journal.last("skip", f"parity {MODEL}")
    assert (entry.text, entry.data) == ("vision", {"reason": "no picture is sent"})
    assert verdict(context)["evidence"] == {"skipped": {"vision": "no picture is sent"}, "n": 1}
    assert ("skip", f"parity {MODEL}: vision is left out: no picture is sent") in context.said
    assert len(context.journal.entries("skip")) == 1


def test_without_a_skip_nothing_is_said_of_it(context):
    gate(context).do()
    assert "skipped" not in verdict(context)["evidence"]
    assert context.journal.entries("skip") == []


@pytest.fixture
def _known(monkeypatch):
    monkeypatch.setattr(skips, "groups", lambda: ("tools", "vision"))


@pytest.mark.usefixtures("_known")
def test_groups_are_chosen_with_one_reason():
    assert skips.chosen_skips((), None) == ()
    assert skips.chosen_skips(("tools", "vision", "tools"), " not\nused ") == (
        Skip("tools", "not used"), Skip("vision", "not used"),
    )  # fmt: skip


@pytest.mark.usefixtures("_known")
@pytest.mark.parametrize(
    ("names", "reason", "message"),
    [
        (("tools",), None, "--skip needs --reason"),
        (("tools",), "  ", "--skip needs --reason"),
        (("toolz", "tools", ""), "why", "no check has the group 'toolz', ''"),
        ((), "why", "--reason belongs to --skip"),
        ((), "", "--reason belongs to --skip"),
    ],
)
def test_what_is_wrong_with_a_skip_is_said(names, reason, message):
    with pytest.raises(UsageError) as caught:
        skips.chosen_skips(names, reason)
    assert message in caught.value.message
    assert "vision" in caught.value.hint or "tools" in caught.value.hint
