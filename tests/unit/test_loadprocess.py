"""The load process on real sockets: odd servers, stalls, bounds, engines' metrics, replay."""

from __future__ import annotations

import asyncio
import json
import threading
import time

import httpx
import pytest
from fake_engine import Engine, Reply

from orchestrator.checks import Side
from orchestrator.checks.loaddoor import door_latency, summary
from orchestrator.checks.loadlengths import Lengths
from orchestrator.checks.loadlive import GatewayWatch, LiveBound, ProbeWatch, hurts
from orchestrator.checks.loadmetrics import level_figures
from orchestrator.checks.loadplan import LoadPlan
from orchestrator.checks.loadreplay import read
from orchestrator.checks.loadrun import stream_load
from orchestrator.checks.loadshape import Level, open_level
from orchestrator.checks.loadshards import shards_for, users_of
from orchestrator.checks.loadspool import Kept, Spool
from orchestrator.checks.selfcheck import Trial, figures, known_server, measure
from orchestrator.clients.gateway import LogRecord
from orchestrator.clients.wire import Exchange
from orchestrator.commands.selfcheck import text as selfcheck_text
from orchestrator.errors import MigrateError


def run(plan, watch=None):
    lines = []
    stream_load(plan, lines.append, watch)
    return lines


def of(lines, kind):
    return [line for line in lines if line["kind"] == kind]


def judged(lines, **where):
    mine = [line for line in lines if all(line.get(key) == value for key, value in where.items())]
    return level_figures(of(mine, "request"), of(mine, "level"))


def plan_for(url, *levels, **changed):
    defaults = {"max_tokens": 4, "timeout_s": 5.0, "warmup": 1, "poll_s": 0.0}
    return LoadPlan((Side("vllm", url),), "m:1", levels, **(defaults | changed))


def quick(body):
    return Reply(tokens=["x"] * body.get("max_tokens", 4), gap_s=0.002)


# odd servers

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def event(delta, finish=None, end=b"\n\n", **more):
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return b"data: " + json.dumps({"choices": [choice], **more}).encode() + end


def sse(*events, done=True, head=HEAD, pieces=None):
    whole = b"".join(events) + (b"data: [DONE]\n\n" if done else b"")
    parts = [whole] if pieces is None else [whole[at : at + pieces] for at in range(0, len(whole), pieces)]
    return head + b"".join(map(chunk, parts)) + b"0\r\n\r\n"


ROLE, A, END = event({"role": "assistant", "content": ""}), event({"content": "a"}), event({}, "stop")
USAGE = b'data: {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 7}}\n\n'
GOOD = sse(ROLE, A, A, END, USAGE)
CUT = HEAD + chunk(ROLE + A)
PLAIN = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"
# name -> what the server sends (b"" then closes), outcome, token deltas, output tokens
ODD = {
    "good": (GOOD, "complete", 2, 7),
    "only the role": (sse(ROLE, END), "complete", 0, None),
    "no usage": (sse(ROLE, A, A, A, END), "complete", 3, None),
    "empty deltas": (sse(ROLE, event({"content": ""}), A, event({}), END), "complete", 3, None),
    "crlf": (sse(*(one.replace(b"\n", b"\r\n") for one in (ROLE, A, END, USAGE))), "complete", 1, 7),
    "a byte at a time": (sse(ROLE, A, A, END, USAGE, pieces=1), "complete", 2, 7),
    "one huge delta": (sse(ROLE, event({"content": "a" * 2_000_000}), END), "complete", 1, None),
    "everything at once, many": (sse(ROLE, *[A] * 20_000, END), "complete", 20_000, None),
    "comments and names": (sse(b": ping\n\n", b"event: message\nid: 1\n" + ROLE, A, END), "complete", 1, None),
    "a length instead of chunks": (PLAIN + b"content-length: %d\r\n\r\n%b" % (len(A + END) + 14, A + END + b"data: [DONE]\n\n"), "complete", 1, None),
    "ends with the connection": (PLAIN + b"connection: close\r\n\r\n" + A + END + b"data: [DONE]\n\n", "complete", 1, None),
    "reasoning": (sse(ROLE, event({"reasoning_content": "r"}), A, END), "complete", 2, None),
    "odd types": (sse(event({"content": ["x"]}), event({"content": 5}), event("text"), event(None), b'data: {"choices": [null, 1], "usage": 4, "model": 7}\n\n', b'data: {"choices": {"a": 1}}\n\n', A, END), "complete", None, None),
    "usage of nonsense": (sse(A, END, b'data: {"choices": [], "usage": {"completion_tokens": "many", "prompt_tokens_details": []}}\n\n'), "complete", 1, None),
    "no end": (sse(ROLE, A, END, done=False), "truncated", 1, None),
    "no reason to stop": (sse(ROLE, A), "truncated", 1, None),
    "cut": (CUT, "truncated", 1, None),
    "cut in a chunk": (HEAD + b"1000\r\n" + A, "truncated", 1, None),
    "error in the stream": (sse(ROLE, A, b'data: {"error": {"message": "died"}}\n\n'), "error", 1, None),
    "no json in the stream": (sse(ROLE, b"data: oops\n\n", END), "error", 0, None),
    "500": (b"HTTP/1.1 500 X\r\ncontent-length: 4\r\n\r\noops", "error", 0, None),
    "503 with a page": (b"HTTP/1.1 503 X\r\ncontent-type: text/html\r\ncontent-length: 15\r\n\r\n<html>no</html>", "error", 0, None),
    "429 empty": (b"HTTP/1.1 429 X\r\ncontent-length: 0\r\n\r\n", "error", 0, None),
    "nothing in it": (b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", "truncated", 0, None),
    "closed at once": (b"", "error", 0, None),
    "no http": (b"SSH-2.0-OpenSSH_9.6\r\n", "error", 0, None),
}  # fmt: skip


class Raw:
    """Answers its n-th request with the n-th script, the first three with `good`."""

    def __init__(self, scripts):
        self.scripts = [GOOD, GOOD, *scripts]

    def __enter__(self):
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()
        start = asyncio.start_server(self.serve, "127.0.0.1", 0)
        self.server = asyncio.run_coroutine_threadsafe(start, self.loop).result(5)
        self.url = f"http://127.0.0.1:{self.server.sockets[0].getsockname()[1]}"
        return self

    def __exit__(self, *_):
        asyncio.run_coroutine_threadsafe(self.stop(), self.loop).result(5)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(5)
        self.loop.close()

    async def stop(self):
        self.server.close()
        tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def serve(self, reader, writer):
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(next(line.split(b":")[1] for line in head.lower().split(b"\r\n") if line.startswith(b"content-length")))
                await reader.readexactly(length)
                script = self.scripts.pop(0)
                writer.write(script)
                await writer.drain()
                if not script.endswith((b"0\r\n\r\n", b"oops", b"html>", b"0\r\n\r\n")) and b"content-length" not in script:
                    return
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.close()


@pytest.fixture(scope="module")
def odd():
    with Raw([script for script, *_ in ODD.values()]) as server:
        return run(plan_for(server.url, Level(1, len(ODD))))


@pytest.mark.parametrize("name", ODD)
def test_odd_servers(odd, name):
    _, outcome, deltas, tokens = ODD[name]
    key = f"1 user/0/{list(ODD).index(name)}"
    (found,) = [line for line in of(odd, "request") if line["key"] == key]
    assert found["outcome"] == outcome, found
    assert deltas is None or len(found["token_us"]) == deltas
    assert found["output_tokens"] == tokens
    assert found["token_us"] == sorted(found["token_us"])


def test_odd_servers_leave_figures_that_can_be_computed(odd):
    found = judged(odd)
    assert found["n"] == len(ODD)
    assert found["outcomes"]["complete"] == sum(outcome == "complete" for _, outcome, *_ in ODD.values())
    json.dumps(found)


# a stall of the server

SERVER = Trial("stalled", 1, gap_ms=2.0, tokens=4, ttft_ms=8.0)


def stalled(tmp_path, level, stall_ms):
    with known_server(SERVER, tmp_path / "log", "--stall-ms", "400", str(stall_ms)) as url:
        return judged(run(plan_for(url, level, timeout_s=30.0)))


def test_a_stall_shows_in_an_open_loop_and_a_closed_one_says_what_it_cannot_see(tmp_path):
    stall = 600
    seen = stalled(tmp_path, open_level("constant", 250, 1.6), stall)    # a p99 needs 300 answers
    assert seen["ttft_ms"]["p95"]["value"] > stall / 2
    assert seen["ttft_ms"]["p99"]["value"] > stall / 2
    assert seen["overloaded"] == ""
    blind = stalled(tmp_path, Level(4, 310), stall)
    assert blind["ttft_ms"]["p95"]["value"] < stall / 2
    assert blind["unseen"]["pause_ms"] > stall / 2
    assert blind["unseen"]["requests"] > 10


@pytest.mark.full
def test_a_stall_of_three_seconds_in_a_minute(tmp_path):
    with known_server(SERVER, tmp_path / "log", "--stall-ms", "20000", "3000") as url:
        seen = judged(run(plan_for(url, open_level("constant", 20, 60), timeout_s=30.0)))
    assert seen["ttft_ms"]["p95"]["value"] > 8
    assert seen["ttft_ms"]["p99"]["value"] > 2000
    with known_server(SERVER, tmp_path / "log", "--stall-ms", "5000", "3000") as url:
        blind = judged(run(plan_for(url, Level(4, 2000), timeout_s=30.0)))
    assert blind["ttft_ms"]["p99"]["value"] < 1000
    assert blind["unseen"]["pause_ms"] > 2000


# memory


class Flood(Raw):
    """Streams `count` chunks to each request as fast as it is read."""

    def __init__(self, count):
        super().__init__([])
        self.block = chunk(event({"content": " word"}, pad="p" * 150)) * 500
        self.count = count

    async def serve(self, reader, writer):
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(next(line.split(b":")[1] for line in head.lower().split(b"\r\n") if line.startswith(b"content-length")))
                body = json.loads(await reader.readexactly(length))
                writer.write(HEAD)
                for _ in range(self.count // 500 if body["max_tokens"] > 1 else 1):
                    writer.write(self.block)
                    await writer.drain()
                writer.write(chunk(END + b"data: [DONE]\n\n") + b"0\r\n\r\n")
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.close()


def flooded(chunks, users):
    with Flood(chunks // users) as server:
        lines = run(plan_for(server.url, Level(users, users), timeout_s=120.0))
    (level,) = of(lines, "level")
    assert level["chunks"] >= chunks
    assert sum(len(one["token_us"]) for one in of(lines, "request")) == chunks
    return level["peak_rss_mb"]


@pytest.mark.full
def test_a_million_chunks_stay_below_300_mb():
    assert flooded(1_000_000, 50) < 300


def test_memory_does_not_grow_with_the_chunks():
    """The bytes of 60,000 chunks are 15 MB, their objects would be 24 MB."""
    assert flooded(60_000, 10) - flooded(5_000, 10) < 20


def test_the_spool_gives_back_what_it_took(tmp_path):
    spool, kept = Spool(in_memory=10), [Kept(), Kept()]
    expected = [[], []]
    for turn in range(6):
        exchange = Exchange(None, None, bodiless=False)
        exchange.pieces = [(turn, b"x" * turn), (turn + 1, b""), (turn + 2, bytes([turn]))]
        expected[turn % 2] += exchange.pieces
        spool.pack(exchange, kept[turn % 2])
        assert exchange.pieces == []
    assert [list(spool.read(one)) for one in kept] == expected
    assert list(spool.read(Kept())) == []
    spool.close()


# bounds


def test_a_reason_from_outside_ends_the_test_and_keeps_what_was_measured():
    def behave(body):
        behave.count += 1
        return Reply(tokens=["x"], gap_s=0.001) if behave.count < 6 else Reply(hang=True)

    behave.count = 0
    with Engine(behave) as engine:
        plan = plan_for(engine.url, Level(3, 50), Level(4, 50), timeout_s=60.0)
        lines = run(plan, lambda seen: "live users wait" if seen["done"] >= 3 and seen["phase"] == "level" else "")
    assert of(lines, "stopped") == [{"kind": "stopped", "reason": "live users wait"}]
    (level,) = of(lines, "level")
    assert (level["sent"], level["aborted"], level["stopped"]) == (3, 3, "live users wait")
    assert {one["outcome"] for one in of(lines, "request")} == {"complete"}


def test_a_warm_up_that_hangs_can_be_stopped():
    with Engine(lambda _: Reply(hang=True)) as engine:
        lines = run(plan_for(engine.url, Level(1, 3), timeout_s=100.0), lambda _: "interrupted")
    assert [line["kind"] for line in lines] == ["stopped"]


@pytest.mark.parametrize("bound, words", [({"most_requests": 7}, "7 requests"), ({"budget_s": 0.5}, "0.5 s")])
def test_a_test_is_bounded_as_a_whole(bound, words):
    with Engine(lambda _: Reply(tokens=["x"], gap_s=0.02)) as engine:
        lines = run(plan_for(engine.url, Level(1, 12), Level(2, 50), Level(3, 50), **bound))
        assert len(engine.bodies) < 40
    (stopped,) = of(lines, "stopped")
    assert words in stopped["reason"]
    assert len(of(lines, "level")) < 3


def test_a_side_that_answers_nothing_is_left_alone():
    def behave(body):
        behave.count += 1
        return quick(body) if behave.count < 2 else Reply(status=500)

    behave.count = 0
    with Engine(behave) as engine:
        lines = run(plan_for(engine.url, Level(1, 3), Level(2, 3), give_up=True))
    assert [one["users"] for one in of(lines, "level")] == [1]


def test_what_an_open_loop_could_not_send_is_counted():
    with Engine(lambda _: Reply(tokens=["x"], gap_s=0.08)) as engine:
        found = judged(run(plan_for(engine.url, open_level("constant", 100, 0.5), max_in_flight=3)))
    assert found["not_sent"] > 30
    assert "could not be sent" in found["overloaded"]


def test_an_open_loop_waits_for_nobody():
    with Engine(lambda _: Reply(tokens=["x"], gap_s=0.06)) as engine:
        found = judged(run(plan_for(engine.url, open_level("poisson", 60, 0.5))))
    assert found["outcomes"] == {"complete": 30}
    assert found["in_flight"]["most"] > 10


# several load processes


@pytest.mark.parametrize("level", [Level(5, 31), open_level("constant", 60, 0.5)], ids=["closed", "open"])
def test_shards_do_the_same_work_as_one_process(level):
    with Engine(quick) as engine:
        one = run(plan_for(engine.url, level, shards=1))
        alone = sorted(json.dumps(body) for body in engine.bodies if "prime" not in body)
        engine.bodies.clear()
        several = run(plan_for(engine.url, level, shards=3))
        together = {json.dumps(body) for body in engine.bodies}
    keys = [sorted(line["key"] for line in of(lines, "request")) for lines in (one, several)]
    assert keys[0] == keys[1]
    assert set(alone) <= together
    (line,) = of(several, "level")
    assert (line["sent"], line["planned"], line["shards"], line["shards_lost"]) == (level.requests, level.requests, 3, 0)
    assert judged(several)["outcomes"] == {"complete": level.requests}
    assert judged(several)["overloaded" if level.open else "unseen"] is not None


def test_further_processes_only_where_cores_are_free_and_one_could_not_keep_up():
    assert [shards_for(Level(users, 1), 64, cores=16) for users in (1, 128, 300, 310, 1000, 9000)] == [1, 1, 1, 2, 4, 8]
    assert shards_for(Level(9000, 1), 64, cores=2) == 1
    assert shards_for(Level(9000, 1), 64, cores=4) == 2
    assert shards_for(open_level("constant", 1000, 1), 64, cores=16) == 5
    for of_ in (1, 2, 3, 7):
        assert sum(users_of(20, number, of_) for number in range(of_)) == 20


# what the engine says, and what is sent


def test_the_engines_own_metrics_are_kept_with_the_level():
    with Engine(quick) as engine:
        engine.page = ('vllm:num_requests_running{a="b"} 3\nvllm:num_requests_waiting{a="b"} 0\n'
                       'vllm:kv_cache_usage_perc{a="b"} 0.4\nvllm:num_preemptions_total{a="b"} 2\n')  # fmt: skip
        found = judged(run(plan_for(engine.url, Level(2, 6), poll_s=0.05)))
    assert (found["engine"]["running_max"], found["engine"]["kv_max"], found["engine"]["preemptions"]) == (3, 0.4, 0)


def test_replay_sends_what_was_captured_with_the_tested_model(tmp_path):
    path = tmp_path / "t.jsonl"
    bodies = [{"messages": [{"role": "user", "content": word}], "max_tokens": 2} for word in ("a", "b", "c")]
    path.write_text("\n".join(json.dumps({"at": n / 10, "body": body}) for n, body in enumerate(bodies)))
    with Engine(quick) as engine:
        captured = read(path)[1]
        lines = run(plan_for(engine.url, Level(0, 3, "replay", 2.0), captured=captured))
        sent = [body["messages"][0]["content"] for body in engine.bodies]
    assert sent[-3:] == ["a", "b", "c"]
    assert {body["model"] for body in engine.bodies} == {"m:1"}
    assert judged(lines)["outcomes"] == {"complete": 3}
    at = sorted(one["at_us"] - one["send_lag_us"] for one in of(lines, "request"))
    assert at == pytest.approx([0, 50_000, 100_000], abs=5)


def test_drawn_lengths_reach_the_server():
    lengths = Lengths(pairs=((200, 3), (20, 5)))
    with Engine(quick) as engine:
        found = judged(run(plan_for(engine.url, Level(2, 12), lengths=lengths)))
        assert {body["max_tokens"] for body in engine.bodies} == {3, 5}
    assert found["output_tokens"] > 12 * 2


# live users

BOUND = LiveBound(2.0, 500.0, least=3)


@pytest.mark.parametrize(
    "before, now, stops",
    [
        ([100] * 9, [100, 120, 90], False),
        ([100] * 9, [690, 690, 690], False),
        ([100] * 9, [710, 710, 710], True),
        ([100] * 9, [9000, 9000], False),
        ([100] * 9, [100, 100, 9000], False),
        ([], [9000] * 9, False),
        ([2000], [4400] * 5, False),
        ([2000], [4600] * 5, True),
    ],
)
def test_live_users_who_wait_longer_end_the_test(before, now, stops):
    assert bool(hurts(before, now, BOUND, "live users")) is stops
    assert not hurts(before, now, LiveBound(0), "live users")


def record(ts, ttft, **changed):
    base = {"ts": ts, "id": "x", "route": "m", "model": "m", "side": "ollama", "engine": None, "via": "ollama",
            "method": "POST", "uri": "/v1/chat/completions", "status": 200, "outcome": "complete", "ttft_ms": ttft,
            "total_ms": ttft + 10, "bytes": 1, "weight": 0, "failover": False, "forced": False, "version": 1,
            "upstream": None}  # fmt: skip
    return LogRecord.model_validate(base | changed)


def test_the_gateways_log_tells_live_requests_from_those_of_checks():
    before = [record(n, 100) for n in range(5)]
    now = time.time()
    forced = [record(now, 9000, forced=True) for _ in range(9)]
    listed = [record(now, 9000, method="GET", uri="/v1/models") for _ in range(9)]
    left = [record(now, 9000, outcome="client_left") for _ in range(9)]
    other = [record(now, 9000, side="vllm") for _ in range(9)]

    def check(records):
        return GatewayWatch(lambda offset: (records, offset + 1), 0, before, BOUND).check()

    assert check([*forced, *listed, *left, *other]) == ""
    assert "live users of ollama wait 9000 ms" in check([record(now, 9000) for _ in range(3)])


def test_a_gateway_that_says_no_more_ends_the_test():
    def silent(_):
        raise MigrateError("the control door does not answer")

    watch = GatewayWatch(silent, 0, [], BOUND)
    said = []
    for _ in range(3):
        watch._looked = float("-inf")
        said.append(watch.check())
    assert said[:2] == ["", ""]
    assert "does not answer" in said[2]


def test_a_probe_that_hangs_counts_as_one_that_waits():
    waits = iter([5.0, 1.0, 1.0, 1.0])
    release = threading.Event()

    def ask():
        wait = next(waits, None)
        if wait is None:
            release.wait(10)
            raise httpx.ReadTimeout("late")
        return wait

    probe = ProbeWatch(ask, LiveBound(2.0, 50.0), every_s=0.01)
    probe.begin()
    assert probe.before == [1.0, 1.0, 1.0]
    for _ in range(1000):
        if probe.check():
            break
        time.sleep(0.01)
    assert "before the load 1 ms" in probe.check()
    release.set()
    probe.end()


def test_the_doors_added_latency_is_the_median_of_pairs():
    found = summary([(1.0, 1.5), (1.0, 1.6), (5.0, 5.4), (1.0, 9.0), (2.0, 2.5), (2.0, 2.5)])
    assert found["added_ms"] == pytest.approx(0.5)
    assert found["added_interval"][0] <= 0.5 <= found["added_interval"][1]
    with Engine() as gone:
        pass
    assert door_latency(gone.url, Side("ollama", gone.url), 2) is None


# the self-check


def test_errors_are_those_against_the_servers_own_stamps():
    plan = LoadPlan((), "m", ())
    sent = [1_000_000_000 + n * 20_000_000 for n in range(4)]
    truth = {plan.mark("k"): {"read_ns": 800_000_000, "sent_ns": sent, "due_ns": sent}}
    late = [201_000, 221_000, 244_000, 261_000]
    lines = [{"kind": "request", "key": "k", "outcome": "complete", "token_us": late},
             {"kind": "request", "key": "unknown", "outcome": "complete", "token_us": late},
             {"kind": "level", "cpu_s": 0.001, "chunks": 10, "cpu_share": 0.1, "loop_lag_p99_ms": 1, "peak_rss_mb": 1}]  # fmt: skip
    found = figures(plan, lines, truth)
    assert (found["n"], found["wrong"], found["stalled"]) == (1, 1, False)
    assert found["ttft_error_ms"]["p50"] == pytest.approx(1.0)
    assert found["itl_error_ms"]["p50"] == pytest.approx(3.0)
    assert found["cpu_us_per_chunk"] == pytest.approx(100)
    truth[plan.mark("k")]["due_ns"] = [at - 50_000_000 for at in sent]
    assert figures(plan, lines, truth)["stalled"]
    assert figures(plan, [], {})["stalled"]


def test_the_known_server_and_the_client_agree_on_every_token():
    found = measure(Trial("small", 8, gap_ms=2.0, tokens=10, ttft_ms=20.0, lockstep=True))
    assert (found["n"], found["wrong"]) == (8, 0)
    assert found["chunks_per_s"] > 0
    shown = selfcheck_text([found | {"name": "small", "streams": 8}])
    assert max(map(len, shown.splitlines())) <= 80
