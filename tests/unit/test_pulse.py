"""Signs of life: a frozen engine loses its requests within seconds, a slow guard accuses nobody."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from test_guard import Door, running, until

from orchestrator.adapter import guard
from orchestrator.adapter.decide import OUT_S, Engine, Health, TakeOut, decide
from orchestrator.adapter.pulse import Lag, Pulse

QUICK = {"pulse_s": 0.05, "pulse_timeout_s": 0.2}
# A process of its own that answers /health, and can be stopped as a whole.
SERVER = """
import http.server, sys
class H(http.server.BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'
    def do_GET(self):
        self.send_response(200); self.send_header('Content-Length', '0'); self.end_headers()
    def log_message(self, *a): pass
s = http.server.ThreadingHTTPServer(('127.0.0.1', 0), H)
print(s.server_address[1], flush=True)
s.serve_forever()
"""


@asynccontextmanager
async def engine() -> AsyncIterator[tuple[int, str]]:
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", SERVER, stdout=asyncio.subprocess.PIPE)
    assert process.stdout
    try:
        yield process.pid, f"http://127.0.0.1:{int(await process.stdout.readline())}"
    finally:
        process.kill()
        await process.wait()


async def close(watch: guard.Guard) -> None:
    async with asyncio.timeout(20):
        await watch.close()


def engines(url: str, **more: Any) -> dict[str, Any]:
    return {"a": {"model": "m:1", "routes": ["m:1"], "urls": {"a": url}, **more}}


def test_a_frozen_engine_is_taken_out_without_a_probe_and_comes_back_with_a_token(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async def go() -> None:
        door = Door(m=100)
        async with engine() as (pid, url), running(door, tmp_path, engines=engines(url), **QUICK) as watch:
            watch.follow(watch._settings)
            os.kill(pid, signal.SIGSTOP)
            await until(lambda: door.out == {"a": OUT_S})
            assert door.probes == []
            assert door.weights["m:1"] == 100   # nothing that somebody would have to raise again
            os.kill(pid, signal.SIGCONT)
            await asyncio.sleep(0.5)
            assert door.out == {"a": OUT_S}     # a living server is no proof of tokens
            await watch.round()
            assert door.out == {"a": 0}
            await close(watch)

    asyncio.run(asyncio.wait_for(go(), 30))
    said = capsys.readouterr().err
    assert said.count('"event": "pulse"') == 1
    assert "no sign of life for" in said


def test_a_gateway_that_forgot_is_told_again(tmp_path: Path) -> None:
    async def go() -> None:
        door = Door(m=100)
        async with engine() as (pid, url), running(door, tmp_path, engines=engines(url), **QUICK) as watch:
            watch.follow(watch._settings)
            os.kill(pid, signal.SIGSTOP)
            await until(lambda: door.out == {"a": OUT_S})
            door.out.clear()
            await until(lambda: door.out == {"a": OUT_S})
            await close(watch)

    asyncio.run(asyncio.wait_for(go(), 30))


def test_an_engine_without_traffic_is_left_in_peace(tmp_path: Path) -> None:
    async def go() -> None:
        door = Door(m=0)
        async with engine() as (pid, url), running(door, tmp_path, engines=engines(url), **QUICK) as watch:
            watch.follow(watch._settings)
            os.kill(pid, signal.SIGSTOP)
            await asyncio.sleep(1.5)
            assert door.out == {}
            door.weights["m:1"] = 100
            await until(lambda: door.out == {"a": OUT_S})
            await close(watch)

    asyncio.run(asyncio.wait_for(go(), 30))


def test_an_engine_that_leaves_the_file_is_listened_to_no_more(tmp_path: Path) -> None:
    async def go() -> None:
        door = Door(m=100)
        async with engine() as (pid, url), running(door, tmp_path, engines=engines(url), **QUICK) as watch:
            watch.follow(watch._settings)
            watch.follow(guard.Settings(watch._settings.gateway, "secret", ()))
            os.kill(pid, signal.SIGSTOP)
            await asyncio.sleep(1.5)
            assert door.out == {}
            await close(watch)

    asyncio.run(asyncio.wait_for(go(), 30))


@pytest.mark.parametrize("how", ["refused", "closed", "500"])
def test_an_answer_of_any_kind_is_a_sign_of_life(how: str) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        if how == "500":
            writer.write(b"HTTP/1.1 500 X\r\nContent-Length: 0\r\n\r\n")
        writer.close()

    async def go() -> None:
        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        if how == "refused":
            server.close()
        async with aiohttp.ClientSession() as session:
            pulse = Pulse("a", f"http://127.0.0.1:{port}", timeout_s=5)
            assert await pulse.beat(session, Lag()) is True
        server.close()

    asyncio.run(go())


def test_silence_counts_unless_this_process_was_late_itself() -> None:
    async def go() -> None:
        with socket.create_server(("127.0.0.1", 0)) as silent:      # accepts by itself, says nothing
            pulse = Pulse("a", f"http://127.0.0.1:{silent.getsockname()[1]}", timeout_s=0.3)
            async with aiohttp.ClientSession() as session:
                assert await pulse.beat(session, Lag()) is False    # one that nobody watches is never late
                lag = Lag()
                lag.watch()
                beat = asyncio.create_task(pulse.beat(session, lag))
                await asyncio.sleep(0.1)
                time.sleep(0.8)  # noqa: ASYNC251 - the loop itself is stuck
                assert await beat is None
                lag.close()

    asyncio.run(go())


def test_lag_is_remembered_only_for_what_it_touched() -> None:
    now = 100.0

    async def go() -> None:
        nonlocal now
        lag = Lag(lambda: now)
        lag.watch()
        now += 1
        assert lag.since(100.5)
        lag.watch()
        began = now = now + 0.01
        now += 0.2
        assert not lag.since(began)
        lag.close()

    asyncio.run(go())


E = Engine("e", "o:1", ("o:1",), kind="embedding")
SILENT = Health(0, "no sign of life for 3 s", answered=True, silent=True)


@pytest.mark.parametrize(
    ("one", "left", "wanted"),
    [
        (SILENT, 0, [TakeOut("e", OUT_S, "no sign of life for 3 s")]),
        (SILENT, OUT_S, []),
        (SILENT, OUT_S / 2 - 1, [TakeOut("e", OUT_S, "no sign of life for 3 s")]),
        (SILENT.after(None), OUT_S, [TakeOut("e", 0, "it answers")]),
        (SILENT.after("no token"), OUT_S, []),
        (SILENT.after("no token").after("no token"), 0, [TakeOut("e", OUT_S, "2 probes failed: no token")]),
        (Health(2, "dead"), 0, [TakeOut("e", OUT_S, "2 probes failed: dead")]),
        (Health(1, "dead"), 0, []),
        (Health(), OUT_S, []),
    ],
)
def test_an_engine_of_embeddings_is_only_ever_taken_out(one: Health, left: float, wanted: list[Any]) -> None:
    status = {"version": 1, "weights": {"o:1": 100}, "circuits": {"e": {"out": left, "by": "guard"}} if left else {}}
    assert decide(status, (E,), {"e": one}, 2, 0) == wanted


def test_a_silent_engine_keeps_its_weight_until_tokens_are_missed_too() -> None:
    one = Engine("a", "m:1", ("m:1",))
    status = {"version": 1, "weights": {"m:1": 50}, "circuits": {}}
    (out,) = decide(status, (one,), {"a": SILENT}, 2, 0)
    assert isinstance(out, TakeOut)
    (lower,) = decide(status, (one,), {"a": SILENT.after("no token").after("no token")}, 2, 0)
    assert not isinstance(lower, TakeOut)
