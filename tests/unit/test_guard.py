"""The guard: what it decides, and that it does so at a gateway's door."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.adapter import alive, guard
from orchestrator.adapter.decide import OUT_S, Engine, Health, Lower, Release, TakeOut, decide
from orchestrator.adapter.watched import Watched
from orchestrator.errors import UsageError

A = Engine("a", "m:1", ("m:1", "n:1"))
B = Engine("b", "o:1", ("o:1",))
C = Engine("c", "p:1", ("p:1",), replicas=("c", "c-2"))


def status(weights: dict[str, float], lease: dict[str, Any] | None = None) -> dict[str, Any]:
    return {"version": 7, "weights": weights, "lease": lease}


def test_a_failed_engine_loses_all_its_routes_and_no_other() -> None:
    seen = {"a": Health(2, "no token within 20 s"), "b": Health(1, "x")}
    actions = decide(status({"m:1": 50, "n:1": 0, "o:1": 100}), (A, B), seen, 2, 0)
    assert actions == [Lower({"m:1": 0.0}, "2 probes failed: no token within 20 s", "a")]


def test_an_expired_lease_falls_back_and_is_released() -> None:
    lease = {"owner": "cutover", "expires": 100, "fallback": {"m:1": 10, "o:1": 60}}
    now = status({"m:1": 50, "o:1": 50}, lease)
    assert decide(now, (A, B), {}, 2, 99) == []
    assert decide(now, (A, B), {}, 2, 100) == [
        Lower({"m:1": 10.0}, "lease of cutover has expired"),
        Release("cutover"),
    ]


def test_an_expired_lease_that_holds_nothing_is_only_released() -> None:
    lease = {"owner": "x", "expires": 1, "fallback": {}}
    assert decide(status({"m:1": 50}, lease), (A,), {}, 2, 5) == [Release("x")]


def test_a_failed_engine_does_not_come_back_through_the_fallback() -> None:
    lease = {"owner": "x", "expires": 1, "fallback": {"m:1": 10}}
    actions = decide(status({"m:1": 50}, lease), (A,), {"a": Health(3, "dead")}, 2, 5)
    assert [action.weights for action in actions if isinstance(action, Lower)] == [{"m:1": 0.0}]


def replicas(**out: float) -> dict[str, Any]:
    """The status of a gateway whose guard took these out for so long; `c_2` is replica 2."""
    known = {name: {"out": 0, "by": None} for name in C.replicas}
    known |= {name.replace("_", "-"): {"out": left, "by": "guard"} for name, left in out.items()}
    return status({"p:1": 100}) | {"replicas": {"c": known}}


OK, HUNG = Health(answered=True), Health(2, "no token within 20 s", answered=True)


@pytest.mark.parametrize(
    ("now", "first", "second", "wanted"),
    [
        (replicas(), OK, OK, []),
        (replicas(), OK, HUNG, [TakeOut("c-2", OUT_S, "2 probes failed: no token within 20 s")]),
        (replicas(), HUNG, OK, [TakeOut("c", OUT_S, "2 probes failed: no token within 20 s")]),
        (replicas(), HUNG, Health(), [TakeOut("c", OUT_S, "2 probes failed: no token within 20 s")]),
        (replicas(c_2=OUT_S - 5), OK, HUNG, []),
        (replicas(c_2=OUT_S / 2 - 1), OK, HUNG, [TakeOut("c-2", OUT_S, "2 probes failed: no token within 20 s")]),
        (replicas(c_2=50), OK, OK, [TakeOut("c-2", 0.0, "it answers")]),
        (replicas(c_2=50), OK, Health(1, "x", answered=True), []),
        (replicas(c_2=50), OK, Health(), []),
        (replicas(), HUNG, HUNG, [Lower({"p:1": 0.0}, "2 probes failed on each of 2 replicas: no token within 20 s", "c")]),
        (status({"p:1": 100}), OK, HUNG, [TakeOut("c-2", OUT_S, "2 probes failed: no token within 20 s")]),
        (status({"p:1": 0}), OK, HUNG, []),
    ],
)
def test_a_replica_is_taken_out_and_weights_fall_only_when_all_are_down(
    now: dict[str, Any], first: Health, second: Health, wanted: list[Any]
) -> None:
    assert decide(now, (C,), {"c": first, "c-2": second}, 2, 0) == wanted


def test_what_the_gateway_itself_holds_back_is_left_to_it() -> None:
    now = replicas()
    now["replicas"]["c"]["c-2"] = {"out": 0.7, "by": "gateway"}
    assert decide(now, (C,), {"c": OK, "c-2": OK}, 2, 0) == []
    assert decide(now, (C,), {"c": OK, "c-2": HUNG}, 2, 0) == [TakeOut("c-2", OUT_S, f"2 probes failed: {HUNG.reason}")]


def test_an_expired_lease_goes_before_replicas() -> None:
    now = replicas() | {"lease": {"owner": "x", "expires": 1, "fallback": {"p:1": 10}}}
    kinds = [type(action) for action in decide(now, (C,), {"c": OK, "c-2": HUNG}, 2, 5)]
    assert kinds == [Lower, Release, TakeOut]


routes = st.sampled_from(["m:1", "n:1", "o:1", "p:1"])
weights = st.dictionaries(routes, st.integers(0, 1000).map(lambda tenth: tenth / 10))
leases = st.none() | st.fixed_dictionaries(
    {"owner": st.text(max_size=5), "expires": st.integers(0, 20), "fallback": weights}
)


@given(weights, leases, st.integers(0, 4), st.integers(0, 4), st.integers(1, 3), st.integers(0, 20))
def test_no_weight_is_ever_raised(
    now: dict[str, float], lease: Any, one: int, two: int, threshold: int, at: int
) -> None:
    current = dict(now)
    for action in decide(status(now, lease), (A, B), {"a": Health(one), "b": Health(two)}, threshold, at):
        if isinstance(action, Lower):
            for route, weight in action.weights.items():
                assert weight < current[route]
                current[route] = weight


@given(weights, leases, st.integers(0, 20))
def test_deciding_again_after_acting_changes_nothing(now: dict[str, float], lease: Any, at: int) -> None:
    seen = {"a": Health(2, "dead")}
    current = dict(now)
    for action in decide(status(now, lease), (A, B), seen, 2, at):
        if isinstance(action, Lower):
            current |= action.weights
        else:
            lease = None
    assert decide(status(current, lease), (A, B), seen, 2, at) == []


class Door:
    """A gateway's control door and two engines, as one server."""

    def __init__(self, **weights: float) -> None:
        self.weights = {f"{name}:1": value for name, value in weights.items()}
        self.version = 1
        self.lease: dict[str, Any] | None = None
        self.conflicts = 0
        self.engine: Callable[[], int] | None = lambda: 200
        self.probes: list[str] = []
        self.posts: list[dict[str, Any]] = []
        self.hung: set[str] = set()
        self.out: dict[str, float] = {}

    def app(self) -> web.Application:
        app = web.Application()
        app.router.add_get("/control/status", self.status)
        app.router.add_post("/control/weights", self.set)
        app.router.add_post("/control/lease", self.release)
        app.router.add_post("/control/replica", self.take_out)
        app.router.add_post("/side/vllm/v1/{path:.*}", self.probe)
        return app

    async def status(self, request: web.Request) -> web.Response:
        assert request.headers["Authorization"] == "Bearer secret"
        known = {name: {"out": self.out.get(name, 0), "by": "guard" if self.out.get(name) else None} for name in C.replicas}
        alone = {name: {"out": self.out[name], "by": "guard"} for name in "ab" if self.out.get(name)}
        found = {
            "version": self.version, "weights": self.weights, "lease": self.lease,
            "replicas": {"c": known}, "circuits": alone,
        }
        return web.json_response(found)

    async def take_out(self, request: web.Request) -> web.Response:
        body = await request.json()
        self.out[body["replica"]] = body["seconds"]
        return web.json_response(body)

    async def set(self, request: web.Request) -> web.Response:
        body = await request.json()
        if self.conflicts:
            self.conflicts -= 1
            self.version += 1
        if body["version"] != self.version:
            return web.json_response({"error": "conflict", "version": self.version}, status=409)
        self.posts.append(body)
        self.version += 1
        self.weights |= body["weights"]
        return web.json_response({"version": self.version})

    async def release(self, request: web.Request) -> web.Response:
        assert (await request.json())["seconds"] == 0
        self.lease = None
        return web.json_response({})

    async def probe(self, request: web.Request) -> web.Response:
        assert request.headers["Authorization"] == "Bearer secret"
        name = {"m:1": "a", "o:1": "b", "p:1": "c"}[(await request.json())["model"]]
        replica = request.headers.get("X-Migrate-Replica", name)
        self.probes.append(replica + " " + request.match_info["path"])
        if self.engine is None or replica in self.hung:
            await asyncio.sleep(60)
        assert self.engine is not None
        return web.json_response({}, status=self.engine())


@asynccontextmanager
async def running(door: Door, tmp_path: Path, start_s: float = 0, **settings: Any) -> AsyncIterator[guard.Guard]:
    runner = web.AppRunner(door.app(), handler_cancellation=True, shutdown_timeout=1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    url = f"http://127.0.0.1:{port}"
    engines = {
        "a": {"model": "m:1", "routes": ["m:1", "n:1"], "kind": "generate", "start_s": start_s},
        "b": {"model": "o:1", "routes": ["o:1"], "kind": "embedding"},
        "c": {"model": "p:1", "routes": ["p:1"], "replicas": ["c", "c-2"]},
    }
    (tmp_path / "token").write_text("secret\n")
    config = {"gateway": url, "token_file": str(tmp_path / "token"), "engines": engines, **settings}
    (tmp_path / "config.json").write_text(json.dumps(config))
    try:
        async with aiohttp.ClientSession() as session:
            yield guard.Guard(guard.load(tmp_path / "config.json"), session, lambda: 1000.0)
    finally:
        await runner.cleanup()


def test_engines_with_traffic_are_probed_in_their_own_way(tmp_path: Path) -> None:
    async def go() -> None:
        door = Door(m=1, o=5)
        async with running(door, tmp_path) as watch:
            await watch.round()
            assert sorted(door.probes) == ["a chat/completions", "b embeddings"]
            door.probes.clear()
            door.weights |= {"m:1": 0, "o:1": 0}
            await watch.round()
            assert door.probes == []
        assert door.posts == []

    asyncio.run(go())


def test_a_dead_engine_is_lowered_once_after_enough_failures(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async def go() -> None:
        door = Door(m=50, n=20, o=0)
        door.engine = lambda: 500
        async with running(door, tmp_path, failures=2) as watch:
            await watch.round()
            assert door.posts == []
            door.conflicts = 1
            await watch.round()
            await watch.round()
        assert [post["weights"] for post in door.posts] == [{"m:1": 0.0, "n:1": 0.0}]

    asyncio.run(go())
    events = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    lowered = [event for event in events if event["event"] == "lowered"]
    assert [(event["engine"], event["cause"]) for event in lowered] == [("a", "2 probes failed: HTTP 500")]
    assert lowered[0]["weights"] == {"m:1": [50, 0], "n:1": [20, 0]}


async def until(there: Callable[[], bool]) -> None:
    while not there():      # noqa: ASYNC110 - nobody tells
        await asyncio.sleep(0.01)


def test_an_engine_that_the_file_names_later_is_guarded_too(tmp_path: Path) -> None:
    async def go() -> None:
        door, stop = Door(m=50, o=50), asyncio.Event()
        async with running(door, tmp_path, interval_s=0.01):
            path, state = tmp_path / "config.json", tmp_path / "state.json"
            whole = path.read_text()
            config = json.loads(whole)
            del config["engines"]["b"]
            path.write_text(json.dumps(config))
            loop = asyncio.create_task(guard.run(Watched(path, guard.load), state, stop))
            await until(lambda: len(door.probes) >= 3)
            assert set(door.probes) == {"a chat/completions"}
            path.write_text(whole[:40])     # a reader may see it while it is being written
            await asyncio.sleep(0.05)
            path.write_text(whole)
            await until(lambda: "b embeddings" in door.probes)
            stop.set()
            await loop

    asyncio.run(go())


def test_an_engine_that_starts_with_the_guard_keeps_its_weight(tmp_path: Path) -> None:
    async def go() -> None:
        door = Door(m=50)
        door.engine = lambda: 502
        async with running(door, tmp_path, start_s=60) as watch:
            for _ in range(5):
                await watch.round()
            assert door.posts == []
            door.engine = lambda: 200
            await watch.round()
            door.engine = lambda: 502
            await watch.round()
            await watch.round()
        assert [post["weights"] for post in door.posts] == [{"m:1": 0.0}]

    asyncio.run(go())


@pytest.mark.parametrize("start_s, status", [(0, 502), (60, 500)])
def test_one_that_takes_too_long_or_fails_otherwise_does_not(tmp_path: Path, start_s: int, status: int) -> None:
    async def go() -> None:
        door = Door(m=50)
        door.engine = lambda: status
        async with running(door, tmp_path, start_s=start_s) as watch:
            await watch.round()
            await watch.round()
        assert [post["weights"] for post in door.posts] == [{"m:1": 0.0}]

    asyncio.run(go())


def test_a_hung_engine_is_lowered_and_does_not_hold_up_the_lease(tmp_path: Path) -> None:
    async def go() -> None:
        door = Door(m=100, o=40)
        door.engine = None
        door.lease = {"owner": "cutover", "expires": 999.0, "fallback": {"o:1": 10}}
        async with running(door, tmp_path, failures=1, interval_s=0.1, timeout_s=0.5) as watch:
            await watch.round()
            assert door.weights == {"m:1": 100, "o:1": 10}
            assert door.lease is None
            while door.weights["m:1"] or not door.out:
                await watch.round()
        # Vectors of two engines do not mix: its clients are told, and Ollama is not asked instead.
        assert (door.weights, door.out) == ({"m:1": 0, "o:1": 10}, {"b": OUT_S})

    asyncio.run(go())


def test_a_hung_replica_is_taken_out_until_it_answers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async def go() -> None:
        door = Door(p=100)
        door.hung = {"c-2"}
        async with running(door, tmp_path, failures=2, interval_s=1, timeout_s=0.2) as watch:
            for _ in range(3):
                await watch.round()
            assert door.out == {"c-2": OUT_S}
            assert {"c chat/completions", "c-2 chat/completions"} == set(door.probes)
            door.hung = set()
            await watch.round()
            assert door.out == {"c-2": 0}
            door.hung = {"c", "c-2"}
            while door.weights["p:1"]:
                await watch.round()
        assert [post["weights"] for post in door.posts] == [{"p:1": 0.0}]

    asyncio.run(go())
    said = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [(one["replica"], one["out_s"]) for one in said if one["event"] == "replica"][:2] == [("c-2", OUT_S), ("c-2", 0)]


def test_an_engine_that_says_it_is_busy_is_alive(tmp_path: Path) -> None:
    async def go() -> None:
        door = Door(m=100)
        door.engine = lambda: 503
        async with running(door, tmp_path, failures=1) as watch:
            await watch.round()
        assert door.posts == []

    asyncio.run(go())


def test_a_gateway_that_is_away_is_said_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async def go() -> None:
        door = Door(m=1)
        async with running(door, tmp_path) as watch:
            watch.follow(guard.Settings("http://127.0.0.1:9", "secret", ()))
            await watch.round()
            await watch.round()

    asyncio.run(go())
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_health_check_tells_a_loop_that_stopped(tmp_path: Path) -> None:
    state = tmp_path / "state.json"
    assert alive.looped(state, 60) == 1
    alive.write_state(state, {"at": 0})
    assert alive.looped(state, 60) == 1
    alive.write_state(state, {"at": 9e12})
    assert alive.looped(state, 60) == 0


def test_bad_configuration_is_one_message(tmp_path: Path) -> None:
    (tmp_path / "c.json").write_text('{"engines": []}')
    with pytest.raises(UsageError, match="guard configuration"):
        guard.load(tmp_path / "c.json")


def test_the_process_guards_until_it_is_told_to_stop(tmp_path: Path) -> None:
    async def go() -> None:
        door = Door(m=80)
        door.engine = lambda: 500
        async with running(door, tmp_path, failures=1, interval_s=0.1):
            state = tmp_path / "state.json"
            command = [sys.executable, "-m", "orchestrator.adapter.guard", "--config", str(tmp_path / "config.json")]
            command += ["--state", str(state)]
            process = await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.PIPE)
            while door.weights["m:1"] or not state.exists():  # noqa: ASYNC110  (another process writes it)
                await asyncio.sleep(0.02)
            asked = await asyncio.create_subprocess_exec(*command, "--check")
            assert await asked.wait() == 0
            process.terminate()
            _, said = await process.communicate()
        assert process.returncode == 0
        events = [json.loads(line)["event"] for line in said.decode().splitlines()]
        assert events[0] == "start"
        assert events.count("lowered") == 1

    asyncio.run(go())
