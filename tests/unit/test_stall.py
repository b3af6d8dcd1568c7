"""A core that hangs behind a living server is found by what stands still; a long prefill is never taken for one."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st
from test_guard import Door, running, until

from orchestrator.adapter import stall
from orchestrator.adapter.decide import OUT_S
from orchestrator.adapter.pulse import Lag
from orchestrator.adapter.stall import LEAST_S, MARGIN, Stall, patience, read

# As vLLM 0.32 shows them, among much else.
PAGE = """# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{{engine="0",model_name="m"}} {running}
vllm:num_requests_waiting{{engine="0",model_name="m"}} 0.0
vllm:kv_cache_usage_perc{{engine="0",model_name="m"}} {fill}
vllm:prompt_tokens_total{{engine="0",model_name="m"}} {prompt}
vllm:prompt_tokens_created{{engine="0",model_name="m"}} 1.79e+09
vllm:prompt_tokens_cached_total{{engine="0",model_name="m"}} {cached}
vllm:generation_tokens_total{{engine="0",model_name="m"}} {said}
vllm:request_prefill_time_seconds_sum{{engine="0",model_name="m"}} {seconds}
vllm:mm_cache_queries_total{{engine="0",model_name="m"}} {beside}
process_cpu_seconds_total {beside}
http_requests_total{{handler="/metrics",method="GET",status="2xx"}} {beside}
"""
START = {"running": 1.0, "fill": 0.1, "prompt": 50000.0, "cached": 10000.0, "said": 900.0, "seconds": 4.0, "beside": 0}


def page(**now: Any) -> str:
    return PAGE.format(**START | now)


def test_only_what_the_core_reports_counts() -> None:
    assert read(page()) == read(page(beside=7))
    for moved in ({"running": 2.0}, {"fill": 0.1001}, {"prompt": 50001.0}, {"said": 901.0}):
        assert read(page(**moved)).marks != read(page()).marks
    assert read(page()).rate == 10000.0
    assert read(page(seconds=0.0)).rate is None
    assert read(page(cached=50000.0)).rate is None, "what came out of the cache says nothing of the rate"


@pytest.mark.parametrize("odd", ["", "<html>", "{}", "vllm:prompt_tokens_total", "vllm:prompt_tokens_total{} abc", "up 1"])
def test_a_page_without_counters_proves_nothing(odd: str) -> None:
    assert read(odd) is None


@given(st.text() | st.text("vllm:prompt_tokens_total{}\n 0123.e+-"))
def test_any_page_is_read(text: str) -> None:
    found = read(text)
    assert found is None or found.marks


def test_it_waits_for_as_long_as_a_step_may_take() -> None:
    assert patience(None, 2048, 0.0, 20.0) == 20.0, "nothing is known: only the probe tells"
    assert patience(1e6, 2048, 0.0, 20.0) == LEAST_S
    assert patience(2000.0, 8192, 0.0, 20.0) == pytest.approx(MARGIN * 4.096)
    assert patience(1e6, 2048, 4.0, 20.0) == 8.0, "it was that slow before, and went on"
    assert patience(10.0, 8192, 0.0, 20.0) == 20.0


@given(st.floats(1, 1e6), st.integers(1, 10**6), st.floats(0, 100), st.floats(3, 100))
def test_a_step_at_the_known_rate_is_never_an_alarm(rate: float, tokens: int, longest: float, most: float) -> None:
    found = patience(rate, tokens, longest, most)
    assert found <= most
    assert found == most or found > max(tokens / rate, longest)


class Core:
    """An engine whose server answers, and whose core may hang; its counters move every `step_s`."""

    def __init__(self) -> None:
        self.hangs, self.slow, self.now, self.looks = False, 0.0, dict(START), 0

    async def health(self, _: web.Request) -> web.Response:
        return web.Response()

    async def metrics(self, _: web.Request) -> web.Response:
        self.looks += 1
        await asyncio.sleep(self.slow)
        return web.Response(text=page(**self.now ))


@asynccontextmanager
async def served(core: Core) -> AsyncIterator[str]:
    app = web.Application()
    app.router.add_get("/health", core.health)
    app.router.add_get("/metrics", core.metrics)
    runner = web.AppRunner(app, shutdown_timeout=1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stall, "SUSPECT_S", 0.02)
    monkeypatch.setattr(stall, "EVERY_S", 0.02)
    monkeypatch.setattr(stall, "LEAST_S", 0.3)


@asynccontextmanager
async def guarded(tmp_path: Path, core: Core, door: Door, **more: Any) -> AsyncIterator[Any]:
    async with served(core) as url:
        engines = {"a": {"model": "m:1", "routes": ["m:1"], "urls": {"a": url}, "step_tokens": 100, **more}}
        async with running(door, tmp_path, engines=engines, interval_s=0.05, timeout_s=30.0) as watch:
            watch.follow(watch._settings)
            yield watch
            async with asyncio.timeout(20):
                await watch.close()


def test_a_core_that_hangs_loses_its_requests_while_the_probe_still_waits(
    tmp_path: Path, quick: None, capsys: pytest.CaptureFixture[str]
) -> None:
    async def go() -> None:
        core, door = Core(), Door(m=100)
        door.engine = None
        async with guarded(tmp_path, core, door) as watch:
            await watch.round()
            await until(lambda: door.out == {"a": OUT_S})
            assert door.probes == ["a chat/completions"], "one probe, and it waits"
            assert door.weights["m:1"] == 100, "nothing that somebody would have to raise again"
    asyncio.run(asyncio.wait_for(go(), 30))
    said = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert any("nothing moved for" in str(one.get("cause")) for one in said)


def test_it_comes_back_with_a_token(tmp_path: Path, quick: None) -> None:
    async def go() -> None:
        core, door = Core(), Door(m=100)
        hung = asyncio.Event()

        async def probes(request: web.Request) -> web.Response:
            door.probes.append("one")
            await hung.wait()
            return web.json_response({})

        door.engine = lambda: 200
        door.probe = probes     # type: ignore[method-assign]
        async with guarded(tmp_path, core, door) as watch:
            await watch.round()
            await until(lambda: door.out == {"a": OUT_S})
            hung.set()
            await until(lambda: watch.health["a"].answered)
            await watch.round()
            assert door.out == {"a": 0}
    asyncio.run(asyncio.wait_for(go(), 30))


@pytest.mark.parametrize("moves", ["fill", "said"])
def test_a_long_prefill_or_a_full_queue_moves_and_is_no_alarm(tmp_path: Path, quick: None, moves: str) -> None:
    async def go() -> None:
        core, door = Core(), Door(m=100)
        door.engine = None
        async with guarded(tmp_path, core, door) as watch:
            await watch.round()
            for _ in range(12):     # four times as long as a step may take
                await asyncio.sleep(0.1)
                core.now[moves] += 0.01
            assert door.out == {}
            assert core.looks > 5
    asyncio.run(asyncio.wait_for(go(), 30))


@pytest.mark.parametrize("silent", [{"seconds": 0.0}, "404", "slow"])
def test_without_evidence_only_the_probe_decides(tmp_path: Path, quick: None, silent: Any) -> None:
    async def go() -> None:
        core, door = Core(), Door(m=100)
        door.engine = None
        if isinstance(silent, dict):
            core.now |= silent
        elif silent == "404":
            core.metrics = core.health      # type: ignore[method-assign]
        else:
            core.slow = 5.0
        async with guarded(tmp_path, core, door) as watch:
            await watch.round()
            await asyncio.sleep(1.2)
            assert door.out == {}
    asyncio.run(asyncio.wait_for(go(), 30))


def test_a_quick_probe_asks_for_no_counters(tmp_path: Path) -> None:
    async def go() -> None:
        core, door = Core(), Door(m=100)
        async with guarded(tmp_path, core, door) as watch:
            for _ in range(5):
                await watch.round()
            assert core.looks == 0
    asyncio.run(asyncio.wait_for(go(), 30))


def test_a_pause_without_an_alarm_is_remembered_and_a_thaw_is_not(quick: None) -> None:
    async def go() -> None:
        core, alarms = Core(), []
        import aiohttp

        async def alarm(why: str) -> None:
            alarms.append(why)

        async with served(core) as url, aiohttp.ClientSession() as session:
            one, lag = Stall(url, 100), Lag()
            lag.watch()
            task = asyncio.create_task(one.watch(session, lag, 1.0, 20.0, alarm))
            await asyncio.sleep(0.25)
            core.now["said"] += 1
            await until(lambda: one.longest > 0.1)
            assert alarms == []
            seen = one.longest
            await until(lambda: alarms)
            core.now["said"] += 1
            await until(lambda: one._alarmed is False)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            assert one.longest == seen, "after an alarm it may have hung: that is no measure of its steps"
            lag.close()
    asyncio.run(asyncio.wait_for(go(), 30))


def test_a_guard_that_was_late_accuses_nobody(quick: None) -> None:
    class Late(Lag):
        def since(self, began: float) -> bool:
            return True

    async def go() -> None:
        core, alarms = Core(), []
        import aiohttp

        async def alarm(why: str) -> None:
            alarms.append(why)

        async with served(core) as url, aiohttp.ClientSession() as session:
            task = asyncio.create_task(Stall(url, 100).watch(session, Late(), 1.0, 20.0, alarm))
            await asyncio.sleep(0.8)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            assert core.looks > 3
            assert alarms == []
    asyncio.run(asyncio.wait_for(go(), 30))
