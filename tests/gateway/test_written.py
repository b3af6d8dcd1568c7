"""Nothing that the gateway writes holds what clients send."""

from __future__ import annotations

import json
import shutil
import time
from contextlib import suppress
from pathlib import Path

import httpx
import pytest
from gateway_bench import Bench, chat
from gateway_fakes import SSE, Fake, drop, pieces, sse, status
from gateway_harness import EMBED, FIXED, ROUTE, STICKY, TEMPLATES, Nginx, Ports
from gateway_metrics import Samples, served

pytestmark = pytest.mark.docker

SECRETS = {
    "prompt": "s3cret-of-the-prompt", "system": "s3cret-of-the-system", "key": "sk-s3cret-of-the-key",
    "query": "s3cret-of-the-query", "cookie": "s3cret-of-the-cookie", "session": "s3cret-of-the-session",
    "answer": "s3cret-of-the-answer", "tool": "s3cret-of-the-tool", "referer": "s3cret-of-the-referer",
    "user": "s3cret-of-the-user", "basic": "czNjcmV0LW9mLXRoZS1iYXNpYw", "broken": "s3cret-of-the-broken",
}  # fmt: skip


def everything_written(nginx: Nginx) -> str:
    texts = [nginx.logs(), Samples(nginx).text, json.dumps(nginx.status()), nginx.ask("GET", "/control/log").text]
    files = [path for path in nginx.state.rglob("*") if path.is_file()]
    texts += [f"{path.name}\n{path.read_bytes().decode(errors='replace')}" for path in files]
    return "\n".join(texts)


def test_nothing_that_is_written_holds_a_prompt_a_key_or_a_query(tmp_path: Path, bench: Bench) -> None:
    with served(tmp_path, bench) as (own, upstreams):
        search_what_is_written(own, upstreams["ollama"], upstreams["engine"])


def search_what_is_written(own: Nginx, ollama: Fake, engine: Fake) -> None:
    own.weights({ROUTE: 100, STICKY: 50})
    say = sse({"choices": [{"delta": {"content": SECRETS["answer"]}}]}, "[DONE]")
    headers = {"Authorization": f"Bearer {SECRETS['key']}", "Cookie": f"a={SECRETS['cookie']}", "Referer": SECRETS["referer"],
               "X-Session-Id": SECRETS["session"], "X-Api-Key": SECRETS["key"], "Content-Type": "application/json"}  # fmt: skip
    body = {"messages": [{"role": "system", "content": SECRETS["system"]}, {"role": "user", "content": SECRETS["prompt"]}],
            "user": SECRETS["user"], "tools": [{"type": "function", "function": {"name": SECRETS["tool"]}}]}  # fmt: skip
    bodies = [json.dumps(body | {"model": model, "stream": stream}).encode()
              for model in (ROUTE, STICKY, FIXED, EMBED, "no-route") for stream in (True, False)]  # fmt: skip
    bodies += [bodies[0][:-9] + SECRETS["broken"].encode(), SECRETS["broken"].encode(), b'{"model":', b"\xff" + bodies[0],
               json.dumps({"model": ROUTE, "prompt": SECRETS["prompt"] * 500_000}).encode()]  # fmt: skip
    behaviours = [pieces(say, SSE), status(500, SECRETS["answer"]), status(400, SECRETS["answer"]), drop,
                  pieces(say[:1], SSE, die=True)]  # fmt: skip
    asked = 0
    for behave in behaviours:
        ollama.behave = engine.behave = behave
        for content in bodies:
            for path in ("/v1/chat/completions", "/api/chat", "/api/tags"):
                url = f"{own.public}{path}?token={SECRETS['query']}"
                asked += 1
                with suppress(httpx.TransportError):
                    httpx.post(url, content=content, headers=headers, timeout=30)
    own.ask("GET", f"/control/status?x={SECRETS['query']}")
    httpx.get(f"{own.control}/metrics?x={SECRETS['query']}", headers={"Authorization": f"Basic {SECRETS['basic']}"})
    own.ask("POST", "/control/weights", content=SECRETS["broken"].encode())
    own.record(asked)
    written = everything_written(own)
    assert ROUTE in written
    assert {name for name, value in SECRETS.items() if value in written} == set()


@pytest.mark.parametrize(("part", "said"), [("choose", "routing failed"), ("outcome", "judging a response failed")])
def test_a_fault_of_its_own_is_said_without_the_request(tmp_path: Path, bench: Bench, part: str, said: str) -> None:
    lua = tmp_path / "lua"
    shutil.copytree(TEMPLATES / "lua", lua)
    broken = {"choose": "M.side = nil", "outcome": "M.new = nil"}[part]
    text = (lua / f"{part}.lua").read_text(encoding="utf-8")
    (lua / f"{part}.lua").write_text(text.rstrip().removesuffix("return M") + broken + "\nreturn M\n", encoding="utf-8")
    nginx = Nginx(tmp_path, Ports(21300), lua=lua)
    ollama = Fake("ollama", nginx.ports.ollama, bench.engine.loop)
    ollama.start()
    try:
        nginx.start()
        httpx.post(f"{nginx.public}/api/chat?token={SECRETS['query']}", json=chat(), headers={"Referer": SECRETS["referer"]})
        until = time.monotonic() + 10
        while said not in nginx.logs() and time.monotonic() < until:
            time.sleep(0.05)
        assert said in nginx.logs()
        assert {name for name, value in SECRETS.items() if value in nginx.logs()} == set()
    finally:
        nginx.remove()
        ollama.stop()
