"""The report of a run that code made: what it says at each stage, and that no figure of it can be changed unseen."""

from __future__ import annotations

import hashlib
import io
import json
import random
import re
import shutil
from contextlib import redirect_stderr, redirect_stdout
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from report_run import LIVE, MODEL, ROOT, SECRET, STAGES, make_run

from orchestrator import commands
from orchestrator.flags import Common, Progress
from orchestrator.report.figures import resolve
from orchestrator.report.text import WIDTH, summary
from orchestrator.report.words import differences

FEW = (1, 2, 5)         # users: enough for curves
VOID = {"meta", "link", "br", "line", "polyline", "circle", "rect", "path"}


def migrate(name: str, path: str | Path, *, out: Path | None = None, raw: Path | None = None) -> SimpleNamespace:
    """Run a command as `migrate` does, in this process: a process for each would take most of the time."""
    said, told = io.StringIO(), io.StringIO()
    common = Common(None, str(path) if name == "report" else None, False, False, False, True, Progress.PLAIN)
    arguments = {"out": str(out) if out else None} if name == "report" else {
        "path": str(path), "raw": str(raw) if raw else None}  # fmt: skip
    with redirect_stdout(said), redirect_stderr(told):
        code = commands.run(name, common, arguments)
    return SimpleNamespace(returncode=code, stdout=said.getvalue(), stderr=told.getvalue())


@pytest.fixture(scope="module", params=STAGES)
def stage(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path, str]:
    """A run up to a stage and its report: (stage, folder of the report, what was printed)."""
    folder = make_run(tmp_path_factory.mktemp(request.param) / "mine", stage=request.param, users=FEW)
    done = migrate("report", folder / "migrate.yaml")
    assert done.returncode == 0, done.stderr
    return request.param, folder / "report", done.stdout


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of a whole run, in a folder of its own."""
    base = tmp_path_factory.mktemp("whole")
    folder = make_run(base / "mine", users=FEW)
    done = migrate("report", folder / "migrate.yaml", out=base / "out")
    assert done.returncode == 0, done.stderr
    return base / "out"


def data(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "report.json").read_text(encoding="utf-8"))


def test_each_stage_has_a_report_that_says_what_is_missing(stage):
    name, folder, printed = stage
    report = data(folder)
    said = {"plan": "open", "up": "pass", "cutover": "open", "done": "pass", "rollback": "open"}
    assert report["headline"]["result"] == said[name]
    missing = {"plan": {"answers", "surfaces", "loads", "live"}, "up": {"live"}}
    assert set(report["missing"]) == missing.get(name, set())
    for gap in report["missing"].values():
        assert gap["run"] in printed
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert page.count("To get this part, run") == len(report["missing"])
    assert migrate("verify", folder).returncode == 0


def test_the_text_is_readable_at_80_columns_and_without_colour(stage):
    _, _, printed = stage
    lines = printed.splitlines()
    assert max(map(len, lines[:-1])) <= WIDTH       # the last one names the files
    assert "\x1b" not in printed
    assert lines[0].startswith("Report on the stack mine")


def test_a_route_that_was_taken_out_does_not_speak(tmp_path):
    folder = make_run(tmp_path / "mine", stage="up", users=FEW)
    gone = {"schema": 1, "at": 1.79e9, "check": "contract", "target": "gone:1b", "result": "fail", "summary": "n refused",
            "evidence": {"matrix": []}, "raw": None}  # fmt: skip
    (folder / "report" / "contract-gone-1b.json").write_text(json.dumps(gone), encoding="utf-8")
    migrate("report", folder / "migrate.yaml")
    assert data(folder / "report")["headline"]["result"] == "pass"
    gone["target"] = MODEL
    (folder / "report" / "contract-z.json").write_text(json.dumps(gone), encoding="utf-8")
    done = migrate("report", folder / "migrate.yaml")
    assert data(folder / "report")["headline"]["result"] == "fail"
    assert "n refused" in done.stdout


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    folder = make_run(tmp_path / "mine", stage="plan")
    (tmp_path / "file").write_text("x", encoding="utf-8")
    done = migrate("report", folder / "migrate.yaml", out=tmp_path / "file")
    assert done.returncode == 1
    assert "--out DIR" in done.stderr
    (folder / "report").mkdir()
    (folder / "report" / "load-x.json").write_text("{", encoding="utf-8")
    assert "load-x.json cannot be read" in migrate("report", folder / "migrate.yaml").stderr


def test_long_words_do_not_break_the_width(whole):
    report = data(whole)
    report["headline"]["text"] = "word " * 60
    report["routes"][0]["gates"][0]["summary"] = "a " * 200
    assert max(map(len, summary(report).splitlines())) <= WIDTH


def test_nothing_secret_and_nothing_that_callers_asked(stage):
    _, folder, printed = stage
    for path in folder.iterdir():
        text = path.read_text(encoding="utf-8")
        assert SECRET not in text, path.name
        assert LIVE not in text, path.name
    assert SECRET not in printed


def test_captured_traffic_is_counted_and_stays_where_it_is(tmp_path):
    folder = make_run(tmp_path / "mine", stage="up", captured=True, users=FEW)
    done = migrate("report", folder / "migrate.yaml", out=tmp_path / "out")
    assert data(tmp_path / "out")["answers"][0]["captured"] == 1
    for path in (tmp_path / "out").iterdir():
        assert LIVE not in path.read_text(encoding="utf-8"), path.name
    assert LIVE not in done.stdout
    raw = next((folder / "report").glob("parity-*.jsonl"))
    assert LIVE in raw.read_text(encoding="utf-8")      # else there was nothing to hide
    assert f"{raw.name} holds what callers asked" in done.stdout
    assert migrate("verify", tmp_path / "out").returncode == 3
    shutil.copytree(tmp_path / "out", tmp_path / "raw")
    shutil.copy(raw, tmp_path / "raw")
    assert migrate("verify", tmp_path / "out", raw=tmp_path / "raw").returncode == 0


class Page(HTMLParser):
    """Collects (pointer, text) of each figure, and the text that stands outside of figures and headings."""

    HEADS = ("th", "caption", "h1", "h2", "h3", "figcaption", "title", "style", "strong", "dt")

    def __init__(self) -> None:
        super().__init__()
        self.open: list[tuple[str, str | None, list[str]]] = []
        self.figures: list[tuple[str, str]] = []
        self.outside: list[str] = []
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.links += [value for key in ("src", "href", "xlink:href", "action") if (value := given.get(key))]
        assert tag != "script"
        if tag not in VOID:
            self.open.append((tag, given.get("data-path"), []))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        name, pointer, text = self.open.pop()
        assert name == tag, f"{tag} closes {name}"
        if pointer:
            self.figures.append((pointer, "".join(text)))

    def handle_data(self, text: str) -> None:
        for _, pointer, kept in self.open:
            if pointer:
                kept.append(text)
        tags = {name for name, _, _ in self.open}
        if not any(pointer for _, pointer, _ in self.open) and not tags & set(self.HEADS):
            self.outside.append(text)


def read(folder: Path) -> Page:
    page = Page()
    page.feed((folder / "report.html").read_text(encoding="utf-8"))
    assert not page.open
    return page


def test_every_figure_of_the_page_is_in_the_data(stage):
    _, folder, _ = stage
    report, page = data(folder), read(folder)
    assert len(page.figures) > 100
    for pointer, text in page.figures:
        value = resolve(report, pointer)
        if isinstance(value, int | float) and not isinstance(value, bool):
            assert float(text) == value, pointer
        else:
            assert text == value, pointer
    # What is no figure: names, and the axis of a share.
    words = re.compile(r"p50|p95|p99|SHA-256|tokens \u2212 1|^(0|100) %$")
    assert [text for text in page.outside if re.search(r"\d", words.sub("", text))] == []


def test_the_page_needs_nothing_from_outside(stage):
    _, folder, _ = stage
    text = (folder / "report.html").read_text(encoding="utf-8")
    links = set(read(folder).links)
    assert {link for link in links if not link.startswith("#")} == {"data:,"}
    assert all(f'id="{link[1:]}"' in text for link in links if link.startswith("#"))
    assert not re.search(r"url\(|@import|https?://(?!127\.0\.0\.1)", re.sub(r"<bdi.*?</bdi>", "", text))
    assert len(text.encode()) < 1.5e6


def test_the_form_is_described(whole):
    text = (ROOT / "docs" / "report.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (`.*?) \|", text, re.MULTILINE)
    assert {name for row in rows for name in re.findall(r"`(\w+)`", row)} == set(data(whole))


def test_a_page_of_many_long_answers_stays_small(tmp_path):
    """Ninety prompts, every other word of each long answer another one: the most that marks can cost."""
    folder = make_run(tmp_path / "mine", stage="up", users=FEW)
    raw = next((folder / "report").glob("parity-*.jsonl"))
    lines = [json.loads(line) for line in raw.read_text(encoding="utf-8").splitlines()]
    dice = random.Random(1)
    for number in range(90):
        case = {"id": f"long-{number}", "group": "long", "messages": [{"role": "user", "content": "Tell a story"}]}
        lines.append({"kind": "case", **case})
        for side in ("ollama", "vllm"):
            text = " ".join(dice.choice(("same", f"{side}{dice.randrange(99)}")) for _ in range(400))
            lines.append({"kind": "answer", "case": case["id"], "side": side, "status": 200, "text": text})
    content = "".join(json.dumps(line) + "\n" for line in lines)
    raw.write_text(content, encoding="utf-8")
    kept = json.loads(raw.with_suffix(".json").read_text(encoding="utf-8"))
    kept["raw"]["sha256"] = hashlib.sha256(content.encode()).hexdigest()
    raw.with_suffix(".json").write_text(json.dumps(kept), encoding="utf-8")
    migrate("report", folder / "migrate.yaml")
    report = data(folder / "report")
    assert report["answers"][0]["left"] > 10
    assert report["answers"][0]["count"] == 34 + 90
    assert (folder / "report" / "report.html").stat().st_size < 1.5e6


@pytest.mark.parametrize("old, new", [
    ("Paris", "Paris."), ("a b c d", "a x y d"), ("", "x"), ("same", "same"), ("안녕하세요 세계", "안녕히 세계"), ("a" * 9000, "b" * 9),
    ("<b>&", "&<b>"), ("one two", ""), (" ", "\n"),
])  # fmt: skip
def test_marked_parts_are_the_texts_themselves(old, new):
    left, right = differences(old, new)
    assert ("".join(text for _, text in left), "".join(text for _, text in right)) == (old, new)
    unmarked = [["".join(text for differs, text in parts if not differs)] for parts in (left, right)]
    assert unmarked[0] == unmarked[1]
    assert any(differs for differs, _ in (*left, *right)) == (old != new)


def test_odd_answers_stay_text(whole):
    page = (whole / "report.html").read_text(encoding="utf-8")
    assert "& more</b>" not in page
    assert "&lt;b&gt;&amp; more&lt;/b&gt;" in page


def test_verify_works_elsewhere(whole, tmp_path):
    shutil.copytree(whole, tmp_path / "moved")
    (tmp_path / "raw").mkdir()
    for path in (tmp_path / "moved").glob("*.jsonl"):
        path.rename(tmp_path / "raw" / path.name)
    assert migrate("verify", tmp_path / "moved" / "report.json").returncode == 3
    done = migrate("verify", tmp_path / "moved" / "report.json", raw=tmp_path / "raw")
    assert (done.returncode, done.stderr) == (0, "")
    assert "load llama3.1:8b" in done.stdout


def test_a_load_test_by_hand_has_figures_and_no_verdict(tmp_path):
    folder = make_run(tmp_path / "mine", stage="up", users=FEW)
    raw = next((folder / "report").glob("load-*.jsonl"))
    lines = [json.loads(line) for line in raw.read_text(encoding="utf-8").splitlines()]
    lines[0] |= {"check": "load-test", "max_num_seqs": 16}
    hand = folder / "report" / "load-test-x-20261125T140000.jsonl"
    kept = [json.dumps(one) for one in lines if one.get("side") != "ollama"]
    hand.write_text("\n".join(kept) + "\n", encoding="utf-8")
    (folder / "report" / "load-test-y-20261125T150000.jsonl").write_text('{"kind": "plan"', encoding="utf-8")
    assert migrate("report", folder / "migrate.yaml").returncode == 0
    report = data(folder / "report")
    gate, by_hand = report["loads"]
    assert (gate["by_hand"], by_hand["by_hand"], report["headline"]["result"]) == (False, True, "pass")
    assert by_hand["levels"][0]["label"] == "1 user"
    assert by_hand["levels"][0]["vllm"]["e2e"] == gate["levels"][0]["vllm"]["e2e"]
    assert by_hand["levels"][0]["ollama"]["n"] is None
    assert migrate("verify", folder / "report").returncode == 0
    hand.write_text("\n".join(kept[:-1]) + "\n", encoding="utf-8")
    assert migrate("verify", folder / "report").returncode == 3


def test_a_missing_raw_file_is_named(whole, tmp_path):
    shutil.copytree(whole, tmp_path / "moved")
    gone = next((tmp_path / "moved").glob("load-*.jsonl"))
    gone.unlink()
    done = migrate("verify", tmp_path / "moved")
    assert done.returncode == 3
    assert f"raw file {gone.name} is missing" in done.stderr


def altered(line: str, dice: random.Random) -> str:
    """Return the line with one value in it changed."""
    found = json.loads(line)
    place: Any = found
    while True:
        key = dice.choice(list(place) if isinstance(place, dict) else range(len(place)))
        if not (isinstance(place[key], dict | list) and place[key]):
            break
        place = place[key]
    old = place[key]
    place[key] = old + 1 if isinstance(old, int | float) and not isinstance(old, bool) else f"{old}x"
    return json.dumps(found)


@pytest.mark.parametrize("seed", range(6))
def test_altering_any_raw_line_is_seen(whole, tmp_path, seed):
    dice = random.Random(seed)
    shutil.copytree(whole, tmp_path / "moved")
    path = dice.choice(sorted((tmp_path / "moved").glob("*.jsonl")))
    lines = path.read_text(encoding="utf-8").splitlines()
    number = dice.randrange(len(lines))
    lines[number] = altered(lines[number], dice)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    done = migrate("verify", tmp_path / "moved")
    assert done.returncode == 3
    assert f"raw file {path.name} was altered" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("pointer", [
    "/headline/text", "/routes/0/state", "/verdicts/2/result", "/loads/0/levels/2/vllm/ttft/p95/value",
    "/loads/0/charts/0/series/0/points/0/y", "/answers/0/same", "/surfaces/0/rows/0/why", "/answers/0/differ/3/vllm/text", "/live/0/vllm/requests", "/timeline/3/text",
    "/weights/0/points/1/weight", "/decision/verdict", "/cited/alone/0/ollama",
])  # fmt: skip
def test_altering_a_shown_figure_is_seen(whole, tmp_path, pointer):
    shutil.copytree(whole, tmp_path / "moved")
    report = data(whole)
    parent, _, key = pointer.rpartition("/")
    place = resolve(report, parent)
    at = int(key) if isinstance(place, list) else key
    place[at] = place[at] + 1 if isinstance(place[at], int | float) else f"{place[at]}x"
    (tmp_path / "moved" / "report.json").write_text(json.dumps(report), encoding="utf-8")
    done = migrate("verify", tmp_path / "moved")
    assert done.returncode == 3
    assert pointer in done.stderr, done.stderr


@pytest.mark.parametrize("text", ["", "{}", "[]", "nul", '{"kind": "migrate report", "schema": 1}', "[" * 100_000])
def test_what_is_no_report_is_refused_in_one_sentence(tmp_path, text):
    path = tmp_path / "report.json"
    path.write_text(text, encoding="utf-8")
    done = migrate("verify", path)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert "migrate report" in done.stderr


def test_no_report_before_a_plan(tmp_path):
    folder = make_run(tmp_path / "mine", stage="plan")
    shutil.rmtree(folder / ".state")
    done = migrate("report", folder / "migrate.yaml")
    assert done.returncode == 4
    assert "migrate plan" in done.stderr
