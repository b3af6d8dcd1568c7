"""The stream transport against real sockets: framing, reuse, timeouts, early close, errors, TLS."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
from contextlib import asynccontextmanager

import httpx
import pytest

from orchestrator.clients.stream import StreamTransport, open_client

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


class Server:
    """Plays one handler per request on raw sockets and remembers what it saw."""

    def __init__(self, handler):
        self.handler, self.requests, self.connections = handler, [], 0
        self.gone, self.arrived = asyncio.Event(), asyncio.Event()

    async def serve(self, reader, writer):
        self.connections += 1
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = next(
                    (int(h.split(b":")[1]) for h in head.split(b"\r\n") if h.lower().startswith(b"content-length")), 0
                )
                self.requests.append((head, await reader.readexactly(length)))
                self.arrived.set()
                if not await self.handler(self, reader, writer):
                    break
        except (asyncio.IncompleteReadError, ConnectionError):
            self.gone.set()
        finally:
            writer.close()


@asynccontextmanager
async def server(handler, tls=None):
    one = Server(handler)
    listener = await asyncio.start_server(one.serve, "127.0.0.1", 0, ssl=tls)
    one.port = listener.sockets[0].getsockname()[1]
    one.url = f"{'https' if tls else 'http'}://localhost:{one.port}" if tls else f"http://127.0.0.1:{one.port}"
    async with listener:
        yield one


def replies(*parts: bytes, keep=True):
    async def handler(_server, _reader, writer):
        for part in parts:
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(0.002)
        return keep

    return handler


def run(test):
    asyncio.run(test())


def test_body_arrives_whole_and_in_order():
    async def test():
        async with (
            server(replies(CHUNKED, chunk(b"one "), chunk(b"two "), chunk(b"three") + b"0\r\n\r\n")) as it,
            open_client(it.url) as client,
        ):
            answer = await client.post("/x", content=b"hello")
        assert (answer.status_code, answer.text) == (200, "one two three")
        head, body = it.requests[0]
        assert body == b"hello"
        assert head.startswith(b"POST /x HTTP/1.1\r\n")
        assert b"accept-encoding: identity" in head.lower()
        assert head.lower().count(b"content-length") == 1

    run(test)


def one_at_a_time(*parts: bytes):
    """Sends each part only after the test has seen the one before."""
    seen = asyncio.Semaphore(0)

    async def handler(_server, _reader, writer):
        for part in parts:
            writer.write(part)
            await seen.acquire()
        return True

    return handler, seen


def test_pieces_come_one_by_one_and_are_stamped_after_the_send():
    async def test():
        handler, seen = one_at_a_time(CHUNKED, chunk(b"a"), chunk(b"b"), b"0\r\n\r\n")
        got = []
        async with (
            server(handler) as it,
            open_client(it.url) as client,
            client.stream("POST", "/", content=b"{}") as answer,
        ):
            seen.release()
            async for piece in answer.aiter_raw():
                got.append(piece)
                seen.release()
            exchange = answer.extensions["exchange"]
        stamps = [stamp for stamp, _ in exchange.pieces]
        assert got == [b"a", b"b"]
        assert exchange.sent_ns < exchange.headers_ns < stamps[0] < stamps[1]

    run(test)


def test_pieces_of_one_read_share_their_stamp():
    async def test():
        async with (
            server(replies(CHUNKED + chunk(b"a") + chunk(b"b") + b"0\r\n\r\n")) as it,
            open_client(it.url) as client,
            client.stream("GET", "/") as answer,
        ):
            exchange = answer.extensions["exchange"]
            await exchange.finished()
        assert len({stamp for stamp, _ in exchange.pieces}) == 1

    run(test)


def test_large_bodies_read_at_the_same_time_stay_apart():
    bodies = [bytes([letter]) * 700_000 for letter in b"abcd"]

    async def handler(it, _reader, writer):
        body = bodies[len(it.requests) - 1]
        writer.write(CHUNKED)
        for start in range(0, len(body), 70_000):
            writer.write(chunk(body[start : start + 70_000]))
            await writer.drain()
        writer.write(b"0\r\n\r\n")
        return True

    async def test():
        async with server(handler) as it, open_client(it.url) as client:
            answers = await asyncio.gather(*(client.get("/") for _ in bodies))
        assert sorted(answer.content for answer in answers) == bodies

    run(test)


def test_connection_is_reused_after_a_whole_answer():
    async def test():
        async with (
            server(replies(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")) as it,
            open_client(it.url) as client,
        ):
            assert [(await client.get("/")).text for _ in range(3)] == ["ok"] * 3
            assert it.connections == 1

    run(test)


def test_connection_close_is_obeyed():
    async def test():
        reply = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok"
        async with server(replies(reply, keep=False)) as it, open_client(it.url) as client:
            await client.get("/")
            await client.get("/")
            assert it.connections == 2

    run(test)


def test_old_idle_connection_is_not_reused():
    async def test():
        transport = StreamTransport(keep_alive_s=0.0)
        async with (
            server(replies(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")) as it,
            open_client(it.url, transport=transport) as client,
        ):
            await client.get("/")
            await client.get("/")
            assert it.connections == 2

    run(test)


def test_dead_reused_connection_is_tried_once_more_and_marked():
    async def handler(it, _reader, writer):
        if len(it.requests) == 2:
            return False  # closes without an answer, as a keep-alive race does
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        return True

    async def test():
        async with server(handler) as it, open_client(it.url) as client:
            await client.post("/", content=b"1")
            answer = await client.post("/", content=b"2")
        assert answer.text == "ok"
        assert answer.extensions["exchange"].retried
        assert [body for _, body in it.requests] == [b"1", b"2", b"2"]

    run(test)


def test_fresh_connection_that_dies_is_an_error_at_once():
    async def test():
        async with server(replies(keep=False)) as it, open_client(it.url) as client:
            with pytest.raises(httpx.RemoteProtocolError):
                await client.post("/", content=b"1")
            assert len(it.requests) == 1

    run(test)


def test_prepared_connections_are_used():
    async def test():
        transport = StreamTransport()
        async with (
            server(replies(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")) as it,
            open_client(it.url, transport=transport) as client,
        ):
            await transport.prepare(it.url, 3)
            await asyncio.gather(*(client.get("/") for _ in range(3)))
            assert it.connections == 3
            await transport.prepare(it.url, 3)
            assert it.connections == 3

    run(test)


def test_early_close_ends_the_connection():
    async def handler(it, reader, writer):
        writer.write(CHUNKED + chunk(b"first"))
        await reader.read()
        it.gone.set()
        return False

    async def test():
        async with server(handler) as it, open_client(it.url) as client:
            async with client.stream("GET", "/") as answer:
                async for _ in answer.aiter_raw():
                    break
            await asyncio.wait_for(it.gone.wait(), 5)

    run(test)


def test_cancelled_request_ends_the_connection():
    async def handler(it, reader, _writer):
        await reader.read()
        it.gone.set()
        return False

    async def test():
        async with server(handler) as it, open_client(it.url) as client:
            task = asyncio.create_task(client.get("/"))
            await asyncio.wait_for(it.arrived.wait(), 5)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await asyncio.wait_for(it.gone.wait(), 5)

    run(test)


def silent(*parts: bytes):
    async def handler(_server, reader, writer):
        for part in parts:
            writer.write(part)
        await reader.read()
        return False

    return handler


@pytest.mark.parametrize("parts", [(), (CHUNKED, chunk(b"a"))], ids=["before headers", "mid-stream"])
def test_silence_is_a_read_timeout(parts):
    async def test():
        async with server(silent(*parts)) as it, open_client(it.url, idle_s=0.2) as client:
            with pytest.raises(httpx.ReadTimeout, match="nothing arrived"):
                await client.get("/")

    run(test)


def test_total_time_bounds_a_stream_that_keeps_talking():
    async def handler(_server, _reader, writer):
        writer.write(CHUNKED)
        while not writer.is_closing():
            writer.write(chunk(b"x"))
            await writer.drain()
            await asyncio.sleep(0.01)
        return False

    async def test():
        async with server(handler) as it, open_client(it.url) as client:
            with pytest.raises(httpx.ReadTimeout, match="not complete"):
                await client.get("/", extensions={"total": 0.3})

    run(test)


@pytest.mark.parametrize(
    "parts, error",
    [
        ((b"garbage\r\n\r\n",), httpx.RemoteProtocolError),
        ((CHUNKED, chunk(b"a")), httpx.RemoteProtocolError),
        ((b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc",), httpx.RemoteProtocolError),
        ((CHUNKED, b"zz\r\n"), httpx.RemoteProtocolError),
    ],
    ids=["not http", "cut chunked", "cut length", "bad chunk"],
)
def test_broken_answers_are_protocol_errors(parts, error):
    async def test():
        async with server(replies(*parts, keep=False)) as it, open_client(it.url) as client:
            with pytest.raises(error) as caught:
                await client.get("/")
            assert caught.value.request.method == "GET"

    run(test)


def test_refused_connection_is_a_connect_error(unused_port):
    async def test():
        async with open_client(f"http://127.0.0.1:{unused_port}") as client:
            with pytest.raises(httpx.ConnectError, match=str(unused_port)):
                await client.get("/")

    run(test)


@pytest.fixture
def unused_port():
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_unknown_scheme_is_refused():
    async def test():
        async with httpx.AsyncClient(transport=StreamTransport()) as client:
            with pytest.raises(httpx.UnsupportedProtocol):
                await client.get("ftp://localhost/")

    run(test)


def test_body_of_an_error_answer_is_readable():
    async def test():
        reply = b'HTTP/1.1 400 Bad Request\r\nContent-Length: 11\r\n\r\n{"error":1}'
        async with (
            server(replies(reply)) as it,
            open_client(it.url) as client,
            client.stream("POST", "/", content=b"{") as answer,
        ):
            assert (answer.status_code, await answer.aread()) == (400, b'{"error":1}')

    run(test)


@pytest.mark.parametrize(
    "reply, text",
    [
        (b"HTTP/1.0 200 OK\r\n\r\nto the end", "to the end"),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", "ok"),
        (b"HTTP/1.1 204 No Content\r\n\r\n", ""),
    ],
    ids=["no length", "informational first", "no content"],
)
def test_unusual_framing(reply, text):
    async def test():
        async with server(replies(reply, keep=False)) as it, open_client(it.url) as client:
            assert (await client.get("/")).text == text

    run(test)


def test_head_has_no_body_to_wait_for():
    async def test():
        async with (
            server(replies(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n")) as it,
            open_client(it.url, idle_s=5) as client,
        ):
            assert (await client.head("/")).status_code == 200

    run(test)


def test_streamed_request_body_is_sent_with_its_length():
    async def parts():
        yield b"ab"
        yield b"cd"

    async def test():
        async with (
            server(replies(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")) as it,
            open_client(it.url) as client,
        ):
            await client.post("/", content=parts())
        head, body = it.requests[0]
        assert body == b"abcd"
        assert b"transfer-encoding" not in head.lower()

    run(test)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tls")
    key, cert = folder / "key.pem", folder / "cert.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=localhost"]
    done = subprocess.run(
        [*command, "-addext", "subjectAltName=DNS:localhost", "-keyout", key, "-out", cert],
        capture_output=True,
        check=False,
    )
    if done.returncode:
        pytest.skip("no openssl program to make a certificate with")
    return key, cert


def test_tls_works_and_an_unknown_certificate_is_refused(certificate):
    key, cert = certificate
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.load_cert_chain(cert, key)

    async def test():
        reply = replies(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        async with server(reply, tls=serving) as it:
            trusted = StreamTransport(verify=ssl.create_default_context(cafile=str(cert)))
            async with open_client(it.url, transport=trusted) as client:
                assert [(await client.get("/")).text for _ in range(2)] == ["ok", "ok"]
                assert it.connections == 1
            async with open_client(it.url) as client:
                with pytest.raises(httpx.ConnectError, match="certificate"):
                    await client.get("/")

    run(test)
