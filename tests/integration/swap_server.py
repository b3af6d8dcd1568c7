"""A small server for the port swap tests: streams as long as it is asked to and says who it is.

ROLE=ollama answers as an original would; ROLE=swap|final as a gateway of the stack STACK. Runs inside a container.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal

ROLE, STACK = os.environ["ROLE"], os.environ.get("STACK", "")
DATE = "Date: Sat, 21 Nov 2026 03:00:00 GMT\r\n"  # Go and nginx send one with every response
CLOSE = ROLE == "swap"  # the temporary gateway keeps no connection, so that none is in its way when it goes


async def answer(writer: asyncio.StreamWriter, status: str, body: dict) -> None:
    data = json.dumps(body).encode()
    close = "Connection: close\r\n" if CLOSE else ""
    head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\n{DATE}{close}Content-Length: {len(data)}\r\n\r\n"
    writer.write(head.encode() + data)
    await writer.drain()


async def stream(writer: asyncio.StreamWriter, seconds: float) -> None:
    close = "Connection: close\r\n" if CLOSE else ""
    writer.write(
        f"HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\n{DATE}{close}Transfer-Encoding: chunked\r\n\r\n".encode()
    )
    steps = max(1, round(seconds / 0.25))
    for step in range(steps + 1):
        data = json.dumps({"server": ROLE, "done": step == steps}).encode() + b"\n"
        writer.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        await writer.drain()
        if step < steps:
            await asyncio.sleep(0.25)
    writer.write(b"0\r\n\r\n")
    await writer.drain()


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while head := await reader.readuntil(b"\r\n\r\n"):
            lines = head.decode().split("\r\n")
            path = lines[0].split(" ")[1]
            fields = {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in lines[1:])}
            body = await reader.readexactly(int(fields.get("content-length", 0)))
            if path == "/_migrate/id" and ROLE != "ollama":
                await answer(writer, "200 OK", {"stack": STACK, "role": ROLE, "version": 0})
            elif path == "/api/version":
                await answer(writer, "200 OK", {"version": "0.0.0"})
            elif path == "/api/generate":
                await stream(writer, json.loads(body)["seconds"])
            else:
                await answer(writer, "404 Not Found", {"error": "not found"})
            if CLOSE or fields.get("connection", "").lower() == "close":
                break
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    finally:
        writer.close()


async def main() -> None:
    await asyncio.start_server(serve, "0.0.0.0", 11434)
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    await stopped.wait()
    os._exit(0)  # as Ollama: a stop cuts what is running


asyncio.run(main())
