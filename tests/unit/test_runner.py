import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from core_stack import Ears

from orchestrator.errors import ExitCode, GateRefused, MigrateError, NeedsHuman
from orchestrator.journal import Journal
from orchestrator.plan import Plan, Step
from orchestrator.runner import run_plan
from orchestrator.stop import Interrupted, Stop

CHILD = Path(__file__).with_name("runner_child.py")


class Fake:
    """An action that writes down what was asked of it; `fails` and `undo_fails` are raised."""

    def __init__(self, log, name, journal, done=False, fails=None, undo_fails=None):
        self.log, self.name, self.journal, self.done = log, name, journal, done
        self.fails, self.undo_fails = fails, undo_fails

    def already_done(self):
        return self.done

    def do(self):
        self.log.append(f"do {self.name}")
        self.seen = [(one.kind, one.subject) for one in self.journal.entries()]
        if self.fails:
            raise self.fails
        return {"text": f"did {self.name}", "number": 7}

    def undo(self):
        self.log.append(f"undo {self.name}")
        if self.undo_fails:
            raise self.undo_fails


class Run:
    """One plan of fakes: `a` and `b`, or as given."""

    def __init__(self, folder, *, live=(), refuse=None, stop_after=None, **fakes):
        self.log, self.ears, self.journal = [], Ears(), Journal(folder)
        self.stop = Stop(self.ears)
        self.actions = {name: Fake(self.log, name, self.journal, **given) for name, given in fakes.items()}
        steps = tuple(Step("step", name, f"cause of {name}", touches_live=name in live) for name in fakes)
        self.plan = Plan("up", "demo", steps)
        self.refuse, self.stop_after = refuse, stop_after

    def confirm(self, step):
        self.log.append(f"ask {step.target}")
        if self.refuse:
            raise self.refuse

    def build(self, step):
        self.log.append(f"build {step.target}")
        if step.target == self.stop_after:
            self.stop._on(signal.SIGINT, None)
        return self.actions[step.target]

    def __call__(self):
        run_plan(self.plan, self.build, self.journal, self.ears, self.stop, self.confirm)

    def written(self):
        return [(one.kind, one.subject, one.text) for one in self.journal.entries()]


def test_intent_is_on_disk_before_the_effect_and_the_outcome_after(tmp_path):
    run = Run(tmp_path, a={}, b={})
    run()
    assert run.actions["a"].seen == [("intent", "step a")]
    assert run.actions["b"].seen == [("intent", "step a"), ("outcome", "step a"), ("intent", "step b")]
    assert run.written() == [
        ("intent", "step a", "cause of a"), ("outcome", "step a", "done"),
        ("intent", "step b", "cause of b"), ("outcome", "step b", "done"),
    ]
    assert run.journal.last("outcome", "step a").data["number"] == 7
    assert run.ears.kinds() == ["start", "done", "start", "done"]
    assert run.ears.heard[1].text == "did a"


def test_what_is_done_already_is_skipped_and_not_asked_about(tmp_path):
    run = Run(tmp_path, live=("a", "b"), a={"done": True}, b={})
    run()
    assert run.log == ["build a", "build b", "ask b", "do b"]
    assert [one.subject for one in run.journal.entries()] == ["step b", "step b"]
    assert run.ears.kinds()[0] == "skip"


def test_a_step_is_looked_at_only_when_its_turn_comes(tmp_path):
    run = Run(tmp_path, a={"fails": GateRefused("no")}, b={})
    with pytest.raises(GateRefused):
        run()
    assert "build b" not in run.log


def test_a_failure_is_undone_journaled_and_raised_as_it_was(tmp_path):
    error = GateRefused("too slow", hint="look", evidence="numbers")
    run = Run(tmp_path, a={"fails": error}, b={})
    with pytest.raises(GateRefused) as caught:
        run()
    assert caught.value is error
    assert run.log == ["build a", "do a", "undo a"]
    assert run.written()[-1] == ("outcome", "step a", "failed")
    assert run.journal.last("outcome", "step a").data == {"error": "too slow"}
    assert run.ears.kinds() == ["start", "fail"]


@pytest.mark.parametrize("second", [MigrateError("port is gone", hint="restart it"), OSError("disk is gone")])
def test_when_undoing_fails_too_a_human_is_told_both(tmp_path, second):
    run = Run(tmp_path, a={"fails": GateRefused("too slow"), "undo_fails": second})
    with pytest.raises(MigrateError) as caught:
        run()
    assert caught.value.exit_code == ExitCode.HUMAN
    assert "too slow" in caught.value.message
    assert str(second) in caught.value.message
    assert caught.value.hint
    assert [text for *_, text in run.written()] == ["cause of a", "failed", "undo failed"]


def test_a_journal_that_cannot_be_written_keeps_nothing_from_being_undone(tmp_path, monkeypatch):
    run = Run(tmp_path, a={"fails": GateRefused("too slow")})
    write = run.journal.append

    def full(kind, *rest):
        if kind == "outcome":
            raise MigrateError("disk is full")
        return write(kind, *rest)

    monkeypatch.setattr(run.journal, "append", full)
    with pytest.raises(GateRefused):
        run()
    assert run.log[-1] == "undo a"


def test_what_nobody_expected_is_undone_too(tmp_path):
    run = Run(tmp_path, a={"fails": ZeroDivisionError("oops")})
    with pytest.raises(ZeroDivisionError):
        run()
    assert run.log[-1] == "undo a"
    assert run.journal.last("outcome", "step a").data == {"error": "oops"}


def test_refused_nothing_is_done(tmp_path):
    run = Run(tmp_path, live=("a",), refuse=MigrateError("not confirmed"), a={}, b={})
    with pytest.raises(MigrateError, match="not confirmed"):
        run()
    assert run.log == ["build a", "ask a"]
    assert run.written() == []


def test_only_what_touches_live_traffic_is_asked_about(tmp_path):
    run = Run(tmp_path, live=("b",), a={}, b={})
    run()
    assert run.log == ["build a", "do a", "build b", "ask b", "do b"]


def test_asked_to_stop_the_step_ends_and_the_next_does_not_begin(tmp_path):
    run = Run(tmp_path, stop_after="a", a={}, b={})
    with pytest.raises(Interrupted) as caught:
        run()
    assert run.log == ["build a", "do a"]
    assert run.written()[-1] == ("outcome", "step a", "done")
    assert caught.value.exit_code == ExitCode.INTERRUPTED
    assert "same command again" in caught.value.hint


def test_a_step_that_was_interrupted_is_undone_and_says_so(tmp_path):
    run = Run(tmp_path, a={"fails": Interrupted("interrupted")})
    with pytest.raises(Interrupted):
        run()
    assert run.log[-1] == "undo a"
    assert run.written()[-1] == ("outcome", "step a", "interrupted")


@pytest.mark.parametrize(("failure", "told"), [
    (MigrateError("docker: canceled"), Interrupted), (GateRefused("no"), GateRefused), (NeedsHuman("stuck"), NeedsHuman),
])
def test_ctrl_c_that_also_hit_a_docker_command_is_an_interruption(tmp_path, failure, told):
    run = Run(tmp_path, stop_after="a", a={"fails": failure})
    with pytest.raises(told) as raised:
        run()
    assert raised.value.exit_code == (ExitCode.INTERRUPTED if told is Interrupted else failure.exit_code)
    word = "interrupted" if told is Interrupted else "failed"
    assert run.written()[-1] == ("outcome", "step a", word)
    assert run.log[-1] == "undo a"


def test_left_at_once_nothing_is_undone_but_it_is_written_down(tmp_path):
    run = Run(tmp_path, a={"fails": KeyboardInterrupt()})
    with pytest.raises(KeyboardInterrupt):
        run()
    assert run.log == ["build a", "do a"]
    assert run.written()[-1] == ("outcome", "step a", "interrupted")


# -- real signals to a real process ----------------------------------------------------------------------


def child(folder, *signals, mode="wait"):
    process = subprocess.Popen(
        [sys.executable, str(CHILD), str(folder), mode], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        for number in signals:
            assert process.stdout.readline() == "ready\n"
            os.kill(process.pid, number)
        out, err = process.communicate()
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()
    return process.returncode, out.split(), err


@pytest.mark.parametrize("number, code, word", [
    (signal.SIGINT, ExitCode.INTERRUPTED, "interrupted"), (signal.SIGTERM, ExitCode.TERMINATED, "terminated"),
])
def test_a_signal_stops_at_the_next_safe_point(tmp_path, number, code, word):
    returned, did, said = child(tmp_path, number)
    assert returned == code
    assert did == ["undone"]
    assert "stopping at the next safe point" in said
    journal = Journal(tmp_path)
    assert journal.last("outcome", "step waits").text == "interrupted"
    assert journal.entries(subject="step never") == []
    assert journal.runs()[0]["outcome"].startswith(word)
    assert journal.runs()[0]["code"] == code
    assert journal.holder() is None


def test_the_second_signal_leaves_at_once(tmp_path):
    returned, did, _ = child(tmp_path, signal.SIGINT, signal.SIGINT, mode="deaf")
    assert returned == ExitCode.INTERRUPTED
    assert did == []
    journal = Journal(tmp_path)
    assert journal.last("outcome", "step deaf").text == "interrupted"
    assert journal.runs()[0]["code"] == ExitCode.INTERRUPTED


def test_a_run_that_was_killed_goes_on_where_it_was(tmp_path):
    returned, did, _ = child(tmp_path, signal.SIGKILL)
    assert returned == -signal.SIGKILL
    assert did == []
    assert [one.kind for one in Journal(tmp_path).entries(subject="step waits")] == ["intent"]
    returned, did, _ = child(tmp_path, mode="pass")
    assert (returned, did) == (0, ["did", "did"])
    assert [one["outcome"] for one in Journal(tmp_path).runs()] == ["killed", "done"]
