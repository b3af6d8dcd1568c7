"""`python -m orchestrator.standin.vllm serve MODEL --flags`, as the program `vllm`."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from typing import NoReturn

from orchestrator.standin.ledger import Ledger
from orchestrator.standin.vllm import flags, startlog, startup
from orchestrator.standin.vllm.app import App
from orchestrator.standin.vllm.engine import POLL_S, Engine
from orchestrator.standin.vllm.metrics import Metrics
from orchestrator.standin.wire import Server, server

CLOSE_S = 0.07  # between SIGTERM and the closed listener, as measured on the real server
DYING_S = 0.3  # between the engine's death and the server's end


def interrupted(*_: object) -> NoReturn:
    """End a start that is under way."""
    sys.stderr.write("KeyboardInterrupt: terminated\n")
    raise SystemExit(130)


async def _follow(engine: Engine, running: Server) -> None:
    """Carry out the faults a test asks for, until the server ends."""
    while not running.should_exit:
        await asyncio.sleep(POLL_S)
        if engine.fault("die") and not engine.dead:
            engine.dead = True
            startlog.engine("EngineCore died unexpectedly.", "core_client.py:700", "ERROR")
            startlog.api("AsyncLLM output_handler failed. EngineDeadError", "async_llm.py:900", "ERROR")
            await asyncio.sleep(DYING_S)
            running.should_exit = True


async def _stop(engine: Engine, running: Server) -> None:
    """End on SIGTERM: without a timeout requests in flight hang; with one they may finish first."""
    timeout = engine.options.shutdown_s
    startlog.api("[shutdown] API server: shutdown triggered", "launcher.py:254")
    mode = "drain" if timeout else "abort"
    startlog.api(f"[shutdown] API server: stopping engine client mode={mode} timeout={timeout:g}s", "launcher.py:270")
    if timeout:
        engine.draining = True
        deadline = asyncio.get_running_loop().time() + timeout
        while engine.busy and asyncio.get_running_loop().time() < deadline:  # noqa: ASYNC110 -- a deadline too
            await asyncio.sleep(POLL_S)
    engine.frozen = bool(engine.busy)
    await asyncio.sleep(CLOSE_S)
    running.should_exit = True


async def run(options: flags.Options, ready: startup.Ready, bound: socket.socket) -> None:
    engine = Engine(options, ready, Metrics(options.names[0]))
    keep_alive = int(os.environ.get("VLLM_HTTP_TIMEOUT_KEEP_ALIVE", "5"))
    running = server(App(engine), server_header=True, keep_alive=keep_alive)
    loop = asyncio.get_running_loop()
    tasks = [loop.create_task(_follow(engine, running))]

    def stop() -> None:
        if len(tasks) == 1:
            tasks.append(loop.create_task(_stop(engine, running)))

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    running.on_listening = startlog.announce
    await running.serve(sockets=[bound])
    for task in tasks:
        task.cancel()


def main() -> None:
    signal.signal(signal.SIGTERM, interrupted)
    options = flags.parse(sys.argv[1:])
    ledger = Ledger.from_env("vllm")
    try:
        startup.validate(options)
        startup.banner(options)
        bound = startup.bind(options)
        ready = startup.boot(options, ledger)
        asyncio.run(run(options, ready, bound))
    except startlog.Failure as failure:
        startlog.fail(failure)
    finally:
        if ledger:
            ledger.close()


if __name__ == "__main__":
    main()
