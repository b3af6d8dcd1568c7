"""`migrate load`, typed by a user: against an Ollama alone, and through a control door."""

from __future__ import annotations

import csv
import json
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest
import yaml
from cli_stage import migrate
from core_stack import MODEL, open_journal, prove, raw
from fake_engine import Engine, Reply
from test_load import sample

from orchestrator.checks.loadpreset import article_figures, nearest_rank
from orchestrator.checks.loadshape import Level
from orchestrator.checks.loadsummary import summarise, to_csv
from orchestrator.commands.load_plan import Asked, levels_of
from orchestrator.commands.load_text import span, text
from orchestrator.errors import UsageError
from orchestrator.spec import parse_spec
from orchestrator.state import Event

TOKEN = "s3cret-of-the-door"


def quick(body):
    return Reply(tokens=["x"] * body.get("max_tokens", 4), gap_s=0.002)


def stack(folder, ollama, control_port=1, **changes):
    """A stack's folder as `migrate plan` leaves it."""
    home = folder / "stacks" / "demo"
    (home / "secrets").mkdir(parents=True)
    (home / "secrets" / "control.token").write_text(TOKEN)
    port = {"port": 2, "control_port": control_port}
    said = raw(ollama={"url": ollama}, gateway=port, **{"load": {"max_tokens": 4}} | changes)
    (home / "migrate.yaml").write_text(yaml.safe_dump(said))
    return open_journal(home / ".state", parse_spec(yaml.safe_dump(said)))


def load(folder, *words):
    return migrate(folder, "load", "--stack", "demo", *words)


# an Ollama alone


@pytest.fixture(scope="module")
def direct(tmp_path_factory):
    folder = tmp_path_factory.mktemp("direct")
    with Engine(quick) as engine:
        stack(folder, engine.url, load={"max_tokens": 4, "slo": {"ttft": "30s"}})
        done = load(folder, "--users", "1,3", "--requests", "60", "--yes", "--json")
        refused = load(folder, "--users", "1")
        dry = load(folder, "--dry-run")
        asked = len(engine.bodies)
        preset = load(folder, "--preset", "article", "--yes", "--live-factor", "0")
    return folder, done, refused, dry, asked, preset


def test_every_sample_is_kept_and_the_figures_follow_from_them(direct):
    folder, done, *_ = direct
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert [(one["side"], one["users"], one["n"]) for one in answer["levels"]] == [("ollama", 1, 60), ("ollama", 3, 60)]
    assert answer["levels"][0]["goodput"]["share"] == 1.0
    path = folder / answer["files"]["raw"]
    assert path.stat().st_mode & 0o777 == 0o600
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert lines[0]["kind"] == "plan"
    again = summarise(lines)
    assert json.loads(json.dumps(again)) == {key: answer[key] for key in again}
    rows = list(csv.DictReader((folder / answer["files"]["csv"]).read_text().splitlines()))
    assert [row["level"] for row in rows] == ["1 user", "3 users"]
    assert float(rows[1]["ttft_ms_p50"]) == pytest.approx(again["levels"][1]["ttft_ms"]["p50"]["value"])
    assert rows[1]["ttft_ms_p99"] == ""


def test_nobody_to_ask_is_a_no(direct):
    _, _, refused, *_ = direct
    assert refused.returncode == 2
    assert "--yes" in refused.stderr


def test_a_dry_run_says_the_bounds_and_sends_nothing(direct):
    _, _, _, dry, asked, _ = direct
    assert dry.returncode == 0
    assert "128 users; at most" in dry.stdout
    assert asked < 60 * 2 + 20


def test_the_articles_test_is_told_in_its_own_figures(direct):
    *_, preset = direct
    assert preset.returncode == 0, preset.stderr
    assert "average" in preset.stdout
    assert "  20 users " in preset.stdout
    assert max(map(len, preset.stdout.split("\nsamples")[0].splitlines())) <= 80


@pytest.mark.parametrize(
    "flags, said",
    [
        ({"users": "0"}, "from 1 to"),
        ({"users": "1,,2"}, "from 1 to"),
        ({"users": "1", "rate": "2"}, "say different things"),
        ({"rate": "fast"}, "above 0"),
        ({"rate": "0"}, "above 0"),
        ({"rate": "nan"}, "above 0"),
        ({"rate": "1-"}, "above 0"),
        ({"rate": "1.2.3"}, "above 0"),
        ({"rate": "1000000"}, "60,000,000 requests"),
        ({"preset": "none"}, "no preset"),
        ({"replay": "x", "speed": 0.0}, "--speed"),
    ],
)
def test_bad_flags_are_told(flags, said):
    with pytest.raises(UsageError, match=said):
        levels_of(Asked(**flags), 60.0, 1)


def test_flags_become_levels():
    assert levels_of(Asked(users="10, 1,5"), 60.0, 0) == (Level(1, 60), Level(5, 60), Level(10, 60))
    assert levels_of(Asked(users="50"), 60.0, 0) == (Level(50, 200),)
    assert levels_of(Asked(rate="2,1-3", poisson=True), 10.0, 0) == (
        Level(0, 20, "poisson", 2.0), Level(0, 20, "ramp", 1.0, 3.0))  # fmt: skip
    assert [one.users for one in levels_of(Asked(), 60.0, 0)] == [1, 2, 5, 10, 20, 50, 128]
    assert levels_of(Asked(replay="x", speed=2.0), 60.0, 7) == (Level(0, 7, "replay", 2.0),)


@pytest.mark.parametrize("words", [["--side", "both"], ["--duration", "long"], ["other:1"]])
def test_what_cannot_be_is_told_before_anything_is_sent(tmp_path, words):
    stack(tmp_path, "http://127.0.0.1:9")
    done = load(tmp_path, *words, "--yes")
    assert (done.returncode, "Traceback" in done.stderr) == (2, False), done.stderr


# through the control door


@contextmanager
def control_door(old, new, log):
    """The doors that a load test uses; `log(start)` gives records from there on."""
    seen = []

    class Door(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            seen.append((self.path, dict(self.headers)))
            status = {"stack": "demo", "role": "gateway", "version": 1, "weights": {}, "hold": {"on": False},
                      "live": {"ollama": 0, "vllm": 0}}  # fmt: skip
            if self.path == "/control/status":
                return self.page(json.dumps(status))
            if self.path.startswith("/control/log"):
                start = int(self.path.split("=")[1])
                records, after = log(start)
                return self.page("".join(json.dumps(one) + "\n" for one in records), {"X-Next": str(after)})
            return self.page("{}" if self.path.endswith("/api/version") else "", code=200 if "version" in self.path else 404)

        def do_POST(self):
            seen.append((self.path, dict(self.headers)))
            body = self.rfile.read(int(self.headers["Content-Length"]))
            engine = old if "/side/ollama/" in self.path else new
            engine.bodies.append(json.loads(body))
            chunks = [{"role": "assistant", "content": ""}, {"content": "a"}, {"content": "b"}]
            events = [{"choices": [{"delta": one, "finish_reason": None}]} for one in chunks]
            events += [{"choices": [{"delta": {}, "finish_reason": "length"}]}]
            events += [{"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 2}}]
            time.sleep(0.005)
            self.page("".join(f"data: {json.dumps(one)}\n\n" for one in events) + "data: [DONE]\n\n")

        def page(self, said, headers=None, code=200):
            self.send_response(code)
            for name, value in {"Content-Length": str(len(said.encode())), **(headers or {})}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(said.encode())

        def log_message(self, *_):
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

    with Server(("127.0.0.1", 0), Door) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield server.server_address[1], seen
        finally:
            server.shutdown()
            thread.join()


class Kept:
    def __init__(self):
        self.bodies = []


def record(ttft, ts):
    return {"ts": ts, "id": "x", "route": MODEL, "model": MODEL, "side": "ollama", "engine": None, "via": "ollama",
            "method": "POST", "uri": "/api/chat", "status": 200, "outcome": "complete", "ttft_ms": ttft,
            "total_ms": ttft, "bytes": 1, "weight": 0, "failover": False, "forced": False, "version": 1,
            "upstream": None}  # fmt: skip


def test_both_sides_go_through_the_control_door_and_its_token_stays_there(tmp_path):
    old, new = Kept(), Kept()
    with control_door(old, new, lambda start: ([], 0)) as (port, seen):
        stack(tmp_path, f"http://127.0.0.1:{port}", port)
        done = load(tmp_path, "--users", "2", "--requests", "10", "--yes", "--live-factor", "0")
    assert done.returncode == 0, done.stderr
    assert f"{MODEL} on ollama" in done.stdout
    assert f"{MODEL} on vllm" in done.stdout
    assert [body["messages"] for body in old.bodies[:3]] == [body["messages"] for body in new.bodies[:3]]
    vllm = [headers for path, headers in seen if path == "/side/vllm/v1/chat/completions"]
    assert {headers["X-Migrate-Engine"] for headers in vllm} == {"llama"}
    assert {headers["Authorization"] for headers in vllm} == {f"Bearer {TOKEN}"}
    kept = "".join(path.read_text() for path in (tmp_path / "stacks" / "demo" / "report").iterdir())
    assert TOKEN not in kept + done.stdout + done.stderr


def test_live_users_who_wait_longer_end_the_test_with_exit_3(tmp_path):
    old, began = Kept(), time.time()

    def log(start):
        if start > 10**12:
            return [], 0
        if not old.bodies:
            return [record(50, began - n) for n in range(9)], 0
        return [record(5000, time.time()) for _ in range(4)], 0

    with control_door(old, Kept(), log) as (port, _):
        journal = stack(tmp_path, f"http://127.0.0.1:{port}", port)
        prove(journal, MODEL)
        journal.move("stack", "demo", Event.TOOK_OVER)
        done = load(tmp_path, "--side", "ollama", "--users", "2", "--requests", "5000", "--yes")
    assert done.returncode == 3, done.stderr
    assert "stopped early: live users of ollama wait 5000 ms" in " ".join(done.stdout.split())
    assert len(old.bodies) < 3000


# the summary


def lines_of(levels, **plan):
    made = [{"kind": "plan", "model": "m:1", **plan}]
    for side, users, samples in levels:
        where = {"side": side, "users": users, "level": f"{users} users", "shape": "closed", "repeat": 0}
        made += [{"kind": "request", **one, **where} for one in samples]
        made.append({"kind": "level", **where, "planned": len(samples), "sent": len(samples), "loop_lag_p99_ms": 0.1,
                     "cpu_share": 0.1, "wall_s": 1.0,
                     "engine": [{"running": 4.0, "waiting": 3.0, "kv": 0.3, "preemptions": 0.0}]})  # fmt: skip
    return made


def test_the_ceiling_is_compared_with_the_plan():
    slow = [sample(at=50 * n) for n in range(60)]
    fast = [sample(at=20 * n) for n in range(60)]
    found = summarise(lines_of([("vllm", 2, slow), ("vllm", 8, fast)], max_num_seqs=4))
    assert found["ceiling"]["vllm"] == {
        "bound": "sequences", "running": 4, "planned": 4, "proposed": 8,
        "text": "requests waited for a place with 30% of the KV cache used: max_num_seqs 4, proposed 8",
    }  # fmt: skip
    assert "proposed 8" in text(found)


def test_long_names_and_many_problems_stay_within_80_columns():
    bad = [sample(outcome="error", token_us=[], last_us=None, error="engine " * 60, status=500) for _ in range(30)]
    lines = lines_of([("ollama", 10_000, bad), ("vllm", 10_000, [sample(output_tokens=None)] * 400)])
    lines += [{"kind": "stopped", "reason": "a reason " * 30}]
    lines += [{"kind": "door", "n": 60, "added_ms": 0.4, "added_interval": [0.3, 0.5], "beside": "Ollama itself"}]
    shown = text(summarise(lines))
    assert max(map(len, shown.splitlines())) <= 80
    assert "adds +0.40 ms" in shown
    assert to_csv(summarise(lines)).count("\n") == 3


def test_a_test_without_any_answer_has_a_summary():
    warmup = {"kind": "warmup", "side": "ollama", "number": 0, "outcome": "refused", "error": "nobody", "token_us": [],
              "last_us": None}  # fmt: skip
    found = summarise([{"kind": "plan", "model": "m"}, warmup])
    assert "nobody" in text(found)
    assert to_csv(found).count("\n") == 1
    assert summarise([])["levels"] == []


def test_the_articles_percentile_is_the_nearest_rank():
    assert nearest_rank(list(range(1, 21)), 95) == 19
    assert nearest_rank([5], 95) == 5
    late = sample(outcome="timeout", token_us=[], last_us=None)
    found = article_figures([sample(ttft=100 * n) for n in range(1, 21)] + [late])
    assert (found["n"], found["timeouts"], found["errors"]) == (21, 1, 0)
    assert found["p95_ms"] == pytest.approx(1900 + 110)
    assert article_figures([sample()] * 19)["p95_note"] == "n too small"


@pytest.mark.parametrize("ms, shown", [(0.04, "0.0 ms"), (9.96, "10.0 ms"), (12.4, "12 ms"), (1234, "1.2 s"), (65_000, "65 s")])
def test_durations_as_people_read_them(ms, shown):
    assert span(ms) == shown
