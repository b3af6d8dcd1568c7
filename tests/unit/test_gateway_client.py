"""The client of the gateway's control door against canned answers."""

from __future__ import annotations

import json
from collections.abc import Callable

import httpx
import pytest

from orchestrator.clients.gateway import Conflict, Gateway
from orchestrator.errors import MigrateError

STATUS = {
    "stack": "demo",
    "role": "final",
    "version": 7,
    "weights": {"a:latest": 12.5},
    "hold": {"on": True, "until": 99.5, "waiting": 3},
    "lease": {"owner": "me", "expires": 50.0, "fallback": {"a:latest": 0}},
    "live": {"ollama": 1, "vllm": 2, "by_route": {"a:latest": {"ollama": 1, "vllm": 2}}},
    "counts": {"a:latest": {"vllm": {"complete": 4}}},
    "failovers": {"a:latest": 1},
    "replicas": {"m": {"m": {"out": 0, "failing": False, "failed": 0, "live": 2, "counts": {"a:latest": {"complete": 3}}},
                       "m-2": {"out": 59.5, "by": "guard", "failing": True, "failed": 4, "live": 0, "counts": {}}}},
    "later": "fields of a newer gateway are no harm",
}
RECORD = {
    "ts": 1795224225.8, "id": "x", "route": None, "model": None, "side": "ollama", "engine": None, "via": "ollama",
    "method": "GET", "uri": "/", "status": 200, "outcome": "complete", "ttft_ms": None, "total_ms": 1.5, "bytes": 9,
    "weight": None, "failover": False, "forced": False, "version": 1, "upstream": None,
}  # fmt: skip


def gateway(answer: Callable[[httpx.Request], httpx.Response]) -> Gateway:
    return Gateway("http://gw:9180/", "secret", httpx.MockTransport(answer))


def always(status: int, body: object = None, **kwargs) -> Gateway:
    return gateway(lambda _: httpx.Response(status, json=body, **kwargs))


def test_the_status_is_typed() -> None:
    status = always(200, STATUS).status()
    assert status.weights == {"a:latest": 12.5}
    assert status.lease is not None
    assert status.lease.fallback == {"a:latest": 0}
    assert (status.hold.on, status.hold.until, status.hold.waiting) == (True, 99.5, 3)
    assert status.live.by_route["a:latest"]["vllm"] == 2
    assert status.counts["a:latest"]["vllm"]["complete"] == 4
    first, second = status.replicas["m"].values()
    assert (first.out, first.by, first.live, first.counts) == (0, None, 2, {"a:latest": {"complete": 3}})
    assert (second.out, second.by, second.failing, second.failed) == (59.5, "guard", True, 4)


def test_a_gateway_of_before_has_no_replicas() -> None:
    assert always(200, {key: value for key, value in STATUS.items() if key != "replicas"}).status().replicas == {}


def test_a_change_of_weights_carries_version_author_and_token() -> None:
    seen: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(200, json={"version": 8})

    assert gateway(answer).set_weights({"a": 10}, 7, "cutover") == 8
    assert json.loads(seen[0].content) == {"version": 7, "weights": {"a": 10}, "by": "cutover"}
    assert seen[0].headers["Authorization"] == "Bearer secret"
    assert (seen[0].method, seen[0].url.path) == ("POST", "/control/weights")


def test_a_conflict_says_which_version_holds() -> None:
    with pytest.raises(Conflict) as caught:
        always(409, {"error": "no", "version": 9}).set_weights({"a": 10}, 7, "me")
    assert caught.value.version == 9
    assert caught.value.hint


@pytest.mark.parametrize(
    ("client", "said"),
    [
        (always(400, {"error": "weights.a: a number"}), "weights.a: a number"),
        (always(401, {"error": "a bearer token is needed"}), "bearer"),
        (always(404, ["not ours"]), "not ours"),
        (always(200, ["not an object"]), "not an object"),
        (always(200, {"stack": "demo"}), "version"),
        (gateway(lambda _: httpx.Response(200, text="<html>")), "Expecting value"),
    ],
)
def test_every_failure_is_explained(client: Gateway, said: str) -> None:
    with pytest.raises(MigrateError) as caught:
        client.status()
    assert said in caught.value.evidence
    assert caught.value.hint
    assert "secret" not in f"{caught.value}{caught.value.hint}{caught.value.evidence}"


def test_a_gateway_that_is_away_is_explained() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused", request=request)

    client = gateway(answer)
    with pytest.raises(MigrateError, match="does not answer") as caught:
        client.hold(on=True, seconds=5)
    assert "migrate logs" in caught.value.hint


def test_the_log_is_read_page_by_page() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        assert request.url.params["from"] == "100"
        text = "".join(json.dumps(RECORD | {"id": i}) + "\n" for i in "ab")
        return httpx.Response(200, text=text, headers={"X-Next": "700"})

    records, after = gateway(answer).log(100)
    assert [r.id for r in records] == ["a", "b"]
    assert records[0].bytes_ == 9
    assert after == 700


def test_a_log_that_is_not_ours_is_explained() -> None:
    client = gateway(lambda _: httpx.Response(200, text='{"ts":"?"}\n', headers={"X-Next": "1"}))
    with pytest.raises(MigrateError, match="/control/log"):
        client.log()


def test_lease_release_and_sides() -> None:
    asked: list[dict] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(json.loads(request.content))
        seconds = asked[-1]["seconds"]
        lease = {"owner": "me", "expires": 5.0, "fallback": {}} if seconds else None
        return httpx.Response(200, json={"lease": lease})

    client = gateway(answer)
    assert client.lease("me", 30, {"a": 0}).expires == 5.0
    client.release("me")
    assert asked == [
        {"owner": "me", "seconds": 30, "fallback": {"a": 0}},
        {"owner": "me", "seconds": 0},
    ]
    assert client.side_url("vllm") == "http://gw:9180/side/vllm"
    assert client.auth_headers == {"Authorization": "Bearer secret"}
