"""An upstream that dies after any byte of a recorded answer, and a client that trusts nothing."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from gateway_fakes import Loop

ANSWERS = Path(os.environ.get("GATEWAY_ANSWERS", Path(__file__).parent / "answers"))
OTHER = b'{"from":"the other side","done":true}'
HANG_S = 10.0


@dataclass(frozen=True)
class Answer:
    """An upstream's whole response: `raw` as it goes over the wire, the first `head` bytes its headers."""

    name: str
    path: str
    kind: str
    ends: str
    raw: bytes
    head: int
    body: bytes

    @property
    def streamed(self) -> bool:
        return "ndjson" in self.kind or "event-stream" in self.kind


def read_answer(path: Path) -> Answer:
    data = yaml.safe_load(path.read_text(encoding="utf-8"))
    frames = [frame.encode() for frame in data["frames"]]
    body = b"".join(frames)
    head = f"HTTP/1.1 200 OK\r\nContent-Type: {data['kind']}\r\n".encode()
    if data["framing"] == "chunked":
        head += b"Transfer-Encoding: chunked\r\n\r\n"
        wire = b"".join(b"%x\r\n%b\r\n" % (len(frame), frame) for frame in frames) + b"0\r\n\r\n"
    else:
        head += b"Content-Length: %d\r\n\r\n" % len(body)
        wire = body
    return Answer(path.stem, data["path"], data["kind"], data["ends"], head + wire, len(head), body)


def answers() -> list[Answer]:
    found = [read_answer(path) for path in sorted(ANSWERS.glob("*.yaml"))]
    assert found, f"no answers in {ANSWERS}"
    return found


@dataclass
class Raw:
    """An upstream that sends `raw` up to the byte that the header X-Cut names, or OTHER; then it closes.

    `reset`: with a reset instead of an end.
    """

    port: int
    loop: Loop
    raw: bytes = b""
    reset: bool = False
    asked: int = 0
    _server: asyncio.Server | None = None

    def start(self) -> None:
        async def go() -> None:
            self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port, reuse_address=True)

        self.loop.call(go())

    def stop(self) -> None:
        async def go() -> None:
            assert self._server
            self._server.close()

        self.loop.call(go())

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            length = head.partition(b"content-length:")[2].partition(b"\r\n")[0]
            await reader.readexactly(int(length or 0))
            self.asked += 1
            if self.raw:
                cut = int(head.partition(b"x-cut:")[2].partition(b"\r\n")[0])
                writer.write(self.raw[:cut])
            else:
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"
                             % (len(OTHER), OTHER))
            await writer.drain()
            if self.reset:
                await asyncio.sleep(0.002)
                linger = struct.pack("ii", 1, 0)
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()


@dataclass(frozen=True)
class Got:
    """What a client got: `whole` says that HTTP itself calls the body complete."""

    status: int
    headers: dict[bytes, bytes]
    body: bytes
    whole: bool


def ask(port: int, path: str, body: dict[str, Any], **headers: str) -> Got:
    """Send one request and read until the other side closes; raises TimeoutError when it never does."""
    text = json.dumps(body).encode()
    more = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    request = (f"POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/json\r\n{more}"
               f"Content-Length: {len(text)}\r\n\r\n").encode() + text
    with socket.create_connection(("127.0.0.1", port), timeout=HANG_S) as connection:
        connection.sendall(request)
        raw = b""
        while piece := connection.recv(65536):
            raw += piece
    return parse(raw)


def parse(raw: bytes) -> Got:
    """Read a response as strictly as HTTP/1.1 asks for."""
    head, found, rest = raw.partition(b"\r\n\r\n")
    assert found, f"no headers: {raw!r}"
    first, *lines = head.split(b"\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(b":") for line in lines)}
    status = int(first.split()[1])
    if headers.get(b"transfer-encoding") != b"chunked":
        length = int(headers.get(b"content-length", b"-1"))
        return Got(status, headers, rest, length == len(rest))
    body = b""
    while rest:
        size, found, after = rest.partition(b"\r\n")
        number = int(size, 16) if found else -1
        if number == 0:
            return Got(status, headers, body, after == b"\r\n")
        body += after[:number] if number > 0 else b""
        if number < 0 or len(after) < number + 2:
            break
        rest = after[number + 2 :]
    return Got(status, headers, body, whole=False)


def told(body: bytes, kind: str) -> str:
    """What a client of a stream understands: complete, error, or nothing. It stops reading at the end."""
    if "ndjson" in kind:
        return _told_by_lines(body)
    failed = False
    for event in body.replace(b"\r\n", b"\n").split(b"\n\n")[:-1]:
        fields = dict(line.partition(b":")[::2] for line in event.split(b"\n") if line)
        name, data = fields.get(b"event", b"").strip(), fields.get(b"data", b"").strip()
        last = name in {b"message_stop", b"response.completed", b"response.incomplete"} and _object(data)
        if data == b"[DONE]" or last:
            return "error" if failed else "complete"
        failed = failed or name in {b"error", b"response.failed"} or "error" in _object(data)
    return "error" if failed else "nothing"


def _told_by_lines(body: bytes) -> str:
    for line in body.split(b"\n"):
        value = _object(line)
        if "error" in value:
            return "error"
        if value.get("done") is True:
            return "complete"
    return "nothing"


def _object(text: bytes) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}
