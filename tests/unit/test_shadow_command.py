"""`migrate shadow`: migrate.yaml is changed as an editor would, and what was compared is told without its words."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
import yaml
from cli_stage import MODEL as NAMED
from cli_stage import migrate, ollama
from core_stack import MODEL, open_journal, spec
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator import commands
from orchestrator.adapter import shadow as sidecar
from orchestrator.adapter.ring import Ring, compared
from orchestrator.commands.shadow import chosen, rewritten
from orchestrator.commands.shadow_records import records, summary
from orchestrator.commands.shadow_text import lines, plain
from orchestrator.decide.specedit import set_value
from orchestrator.errors import UsageError
from orchestrator.flags import Common, Progress
from orchestrator.spec import load_spec, parse_spec
from orchestrator.state import Event
from orchestrator.workspace import Workspace

HEAD = """# what is to happen
name: demo      # its name
accelerator: cpu
ollama: {container: ollama}
engines: {one: {repo: org/repo}}
"""
FORMS = {
    "flow": HEAD + 'routes: {"m:8b": {engine: one}, "n": {engine: one}}\n',
    "block": HEAD + 'routes:\n  # the first\n  "m:8b":\n    engine: one   # here\n  n:\n    engine: one\n',
    "mixed": HEAD + "routes:\n    m:8b: {engine: one}   # short\n    n: {engine: one}\n",
    "had one": HEAD + "routes:\n  m:8b:\n    shadow: {percent: 9, keep: 7}   # a test\n    engine: one\n  n: {engine: one}\n",
    "had a block": HEAD + "routes:\n  m:8b:\n    shadow:\n      percent: 9\n      keep: 7\n\n    # the engine\n    engine: one\n"
                          "  n: {engine: one}\n",
    "at the end": HEAD + "routes:\n  n: {engine: one}\n  m:8b:\n    engine: one\n    shadow:\n      percent: 9",
    "null": HEAD + "routes:\n  n: {engine: one}\n  m:8b:\n    shadow:\n    engine: one\n",
    "windows": (HEAD + "routes:\n  n: {engine: one}\n  m:8b:\n    engine: one\n").replace("\n", "\r\n"),
    "json": json.dumps({"name": "demo", "accelerator": "cpu", "ollama": {"container": "ollama"},
                        "engines": {"one": {"repo": "org/repo"}}, "routes": {"m:8b": {"engine": "one"}, "n": {"engine": "one"}}}),
}


def comments(text: str) -> list[str]:
    return [line[line.index("#"):].rstrip() for line in text.splitlines() if "#" in line]


@pytest.mark.parametrize("form", FORMS)
def test_only_the_shadow_changes_and_comments_stay(form: str) -> None:
    text = FORMS[form]
    before = parse_spec(text)
    on = rewritten(text, before, ["m:8b"], 2.5, None, "migrate.yaml")
    after = parse_spec(on)
    keep = before.routes["m:8b"].shadow.keep if before.routes["m:8b"].shadow else 200
    assert after.routes["m:8b"].shadow.model_dump() == {"percent": 2.5, "keep": keep}
    assert after.model_dump(exclude={"routes": {"m:8b": {"shadow"}}}) == before.model_dump(exclude={"routes": {"m:8b": {"shadow"}}})
    assert comments(on) == comments(text)
    off = rewritten(on, after, ["m:8b"], None, None, "migrate.yaml")
    assert parse_spec(off).routes["m:8b"].shadow is None
    assert comments(off) == comments(text)
    again = rewritten(off, parse_spec(off), ["m:8b", "n"], 100, 3, "migrate.yaml")
    assert {name: one.shadow.model_dump() for name, one in parse_spec(again).routes.items()} == {
        name: {"percent": 100, "keep": 3} for name in ("m:8b", "n")
    }


def test_off_where_it_is_off_changes_no_byte() -> None:
    text = FORMS["flow"]
    assert rewritten(text, parse_spec(text), ["m:8b", "n"], None, None, "x") == text


def test_keep_alone_keeps_the_share() -> None:
    text = FORMS["had one"]
    assert parse_spec(rewritten(text, parse_spec(text), ["m:8b"], None, 50, "x")).routes["m:8b"].shadow.model_dump() == {
        "percent": 9, "keep": 50,
    }
    with pytest.raises(UsageError, match="n has no shadow"):
        rewritten(text, parse_spec(text), ["n"], None, 50, "x")


@pytest.mark.parametrize("odd", [
    HEAD + "routes:\n  n: &same {engine: one}\n  m:8b: *same\n",        # an alias: both would change
    HEAD + "routes:\n  n: &same {engine: one}\n  m:8b: &more\n    <<: *same\n    shadow: {percent: 1}\n  o: *more\n",
])
def test_what_cannot_be_changed_safely_is_refused(odd: str) -> None:
    assert parse_spec(odd).routes["m:8b"].engine == "one"
    with pytest.raises(UsageError, match="cannot be changed safely") as caught:
        set_value(odd, ("routes", "m:8b", "shadow"), "{percent: 2}")
    assert "yourself" in caught.value.hint


def test_what_another_place_brings_in_stays() -> None:
    text = HEAD + "routes:\n  n: &same {engine: one}\n  m:8b:\n    <<: *same\n"
    after = parse_spec(set_value(text, ("routes", "m:8b", "shadow"), "{percent: 2}"))
    assert {name: one.shadow and one.shadow.percent for name, one in after.routes.items()} == {"n": None, "m:8b": 2}


blank = st.sampled_from(["", " ", "\n", "  # note\n", "\n\n# more\n"])


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 7), st.booleans(), st.booleans(), blank, blank, st.sampled_from([1, 2.5, 99.9]))
def test_any_layout_reads_back(indent: int, flow: bool, first: bool, one: str, two: str, percent: float) -> None:
    pad = " " * indent
    route = "{engine: one}" if flow else f"\n{pad * 2}engine: one"
    rows = [f'{pad}"m:8b": {route}', f"{pad}n: {{engine: one}}"]
    text = HEAD + f"routes:{one if one.endswith(chr(10)) else chr(10)}" + "\n".join(rows if first else rows[::-1])
    text += two if two.startswith(("\n", " ")) or not two else ""
    before = parse_spec(text)
    after = parse_spec(rewritten(text, before, ["m:8b"], percent, None, "x"))
    assert after.routes["m:8b"].shadow.percent == percent
    assert after.routes["n"] == before.routes["n"]


def test_routes_are_found_as_ollama_finds_them() -> None:
    of = spec(routes={MODEL: {"engine": "llama"}, "stays": {}})
    assert chosen(of, None) == [MODEL]
    assert chosen(of, "registry.ollama.ai/library/LLAMA3.1:8B") == [MODEL]
    for wrong in ("stays", "nowhere"):
        with pytest.raises(UsageError, match="no route that can have a shadow"):
            chosen(of, wrong)


# --- what was compared ------------------------------------------------------------------------------------


def kept(folder: Path, answers: list[tuple[str, str, int]]) -> Ring:
    ring = Ring(folder, {"m:8b": 100})
    for ours, theirs, status in answers:
        vllm = {"status": status, "body": json.dumps({"response": theirs}).encode(), "total_ms": 30.0, "ttft_ms": 5.0}
        meta = {"route": "m:8b", "uri": "/api/generate", "id": "1", "total_ms": 60.0, "ttft_ms": 9.0}
        ring.put("m:8b", compared(meta, b'{"prompt": "SECRET question"}', json.dumps({"response": ours}).encode(), vllm))
    return ring


ANSWERS = [("the same", "the same", 200), ("abcd", "abxx", 200), ("lost", "", 500)]


def test_numbers_come_without_a_word_of_anybody(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kept(tmp_path / "kept", ANSWERS)
    (tmp_path / "token").write_text("t")
    config = {"gateway": "http://x", "token_file": str(tmp_path / "token"), "folder": str(tmp_path / "kept"), "keep": {"m:8b": 9}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert sidecar.main(["--config", str(tmp_path / "config.json"), "--json", "--route", "m:8b"]) == 0
    said = capsys.readouterr().out
    for word in ("SECRET", "the same", "abcd", "lost"):
        assert word not in said
    found = summary(records(said))
    assert {key: found[key] for key in ("count", "compared", "same", "same_share", "failed")} == {
        "count": 3, "compared": 2, "same": 1, "same_share": 0.5, "failed": 1,
    }
    assert (found["likeness_median"], found["likeness_min"]) == (0.75, 0.5)
    assert (found["ollama_ms_median"], found["vllm_ms_median"]) == (60.0, 30.0)
    assert sidecar.main(["--config", str(tmp_path / "config.json"), "--texts", "2"]) == 0
    worded = records(capsys.readouterr().out)
    assert [one["ollama"]["text"] for one in worded] == ["abcd", "lost"], "the newest two"
    assert "SECRET" in worded[0]["request"]
    assert sidecar.main(["--config", str(tmp_path / "config.json"), "--json", "--route", "other"]) == 0
    assert records(capsys.readouterr().out) == []


junk = st.recursive(st.none() | st.booleans() | st.floats() | st.text(max_size=5),
                    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5), inner, max_size=2), max_leaves=5)
odd = st.fixed_dictionaries({"id": junk}, optional=dict.fromkeys(("at", "likeness", "ollama", "vllm", "uri", "request"), junk))


@settings(max_examples=40, deadline=None)
@given(st.lists(odd, max_size=4), st.text(max_size=30))
def test_odd_records_of_the_side_car_stop_nothing(found: list[dict], noise: str) -> None:
    said = "\n".join([noise, *(json.dumps(one) for one in found)])
    read = records(said)
    one = {"model": "m", "percent": 2, "keep": 5, "in_effect": 2, "weight": 50.0, "samples": None, "running": True,
           "compared": summary(read), "records": read}
    for line in lines(one):
        assert line.isprintable()


def test_a_text_cannot_command_the_terminal() -> None:
    assert plain("a\x1b[2J\r\nb\u202ec", 50) == "a [2J b c"
    assert plain("x" * 500, 10) == "x" * 10 + "…"


# --- the command ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def planned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("planned")
    with ollama() as url:
        done = migrate(folder, "plan", "--ollama", url, "--model", NAMED, "--cpu")
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def stack(planned: Path, tmp_path: Path) -> Path:
    subprocess.run(["cp", "-r", f"{planned}/stacks", str(tmp_path)], check=True)
    return tmp_path


def file(folder: Path) -> Path:
    return folder / "stacks" / "main" / "migrate.yaml"


def test_before_the_take_over_it_is_written_down(stack: Path) -> None:
    before = file(stack).read_text()
    done = migrate(stack, "shadow", NAMED, "--percent", "2")
    assert done.returncode == 0, done.stderr
    assert "in effect with: migrate up" in done.stdout
    assert load_spec(file(stack)).routes[NAMED].shadow.percent == 2
    assert comments(file(stack).read_text()) == comments(before)
    shown = migrate(stack, "shadow", "--json")
    assert shown.returncode == 0, shown.stderr
    assert json.loads(shown.stdout)["routes"][0]["percent"] == 2
    assert migrate(stack, "shadow", "--off").returncode == 0
    assert load_spec(file(stack)).routes[NAMED].shadow is None


def test_a_stack_that_serves_follows_at_once_and_only_that(stack: Path) -> None:
    of = load_spec(file(stack))
    space = Workspace(file(stack).parent)
    journal = open_journal(space.state_dir, of)
    journal.move("stack", "main", Event.TOOK_OVER)
    space.keep_deployed(of)
    done = migrate(stack, "shadow", "--percent", "5", "--dry-run")
    assert done.returncode == 0, done.stderr
    assert [line.split()[1] for line in done.stdout.splitlines()] == ["write-files", "start-service", "reload-services"]
    assert load_spec(file(stack)) == of, "a dry run writes nothing"
    data = yaml.safe_load(file(stack).read_text())
    data["load"] = {**data.get("load", {}), "users": [1]}
    file(stack).write_text(yaml.safe_dump(data, sort_keys=False))
    other = migrate(stack, "shadow", "--percent", "5")
    assert other.returncode == 4
    assert "other changes" in other.stderr
    assert load_spec(file(stack)).routes[NAMED].shadow is None, "nothing is half done"


PLAINLY = Common("main", None, False, False, False, True, Progress.PLAIN)
NOTHING = {"model": None, "percent": None, "keep": None, "off": False, "show": False, "limit": 5, "dry_run": False}


@pytest.mark.parametrize("wrong", [
    {"model": "nowhere", "percent": 2.0}, {"off": True, "percent": 2.0}, {"off": True, "keep": 5}, {"keep": 5},
    {"off": True, "show": True}, {"dry_run": True},
])
def test_what_is_wrong_is_said(
    stack: Path, wrong: dict, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MIGRATE_STACKS", str(stack / "stacks"))
    before = file(stack).read_bytes()
    assert commands.run("shadow", PLAINLY, NOTHING | wrong) == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith("next:")
    assert file(stack).read_bytes() == before


def test_a_share_beyond_all_is_no_share(stack: Path) -> None:
    assert migrate(stack, "shadow", "--percent", "101").returncode == 2
