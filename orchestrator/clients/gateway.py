"""The door to the gateway: its control port, guarded by a token."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Literal, Self, TypeVar

import httpx
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from orchestrator.errors import MigrateError

Side = Literal["ollama", "vllm"]
Model = TypeVar("Model", bound=BaseModel)
BEYOND = 2**53  # an offset behind the end of any log


class Conflict(MigrateError):
    """Someone else changed the weights; `version` is the one that holds now."""

    def __init__(self, version: int) -> None:
        super().__init__(
            "the gateway's weights were changed by someone else meanwhile",
            hint="read the weights again and decide anew; another run or the guard may have lowered them",
            evidence=f"the gateway is at version {version}",
        )
        self.version = version


class _Answer(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class Lease(_Answer):
    """Who shifts traffic, until when (epoch seconds), and the weights to return to without a sign of life."""

    owner: str
    expires: float
    fallback: dict[str, float] = {}


class Held(_Answer):
    """Whether new requests wait, until when (epoch seconds), how many do, and how many may."""

    on: bool
    until: float | None = None
    waiting: int = 0
    most: int | None = None


class Hold(Held):
    """A hold of all requests, and those of single routes; `waiting` counts all."""

    by_route: dict[str, Held] = {}


class Live(_Answer):
    """Requests in flight per side, and per route and side."""

    ollama: int
    vllm: int
    by_route: dict[str, dict[Side, int]] = {}


class Replica(_Answer):
    """One of several replicas of an engine: for how many seconds it still gets no requests, and who says so.

    `failing`: it answers with errors, so others are asked first; `failed`: before its headers, since the start.
    """

    out: float = 0
    by: str | None = None
    failing: bool = False
    failed: int = 0
    live: int = 0
    counts: dict[str, dict[str, int]] = {}


class Touched(_Answer):
    """What was done to Ollama's copy of a route's model through the gateway (pull, create, copy, delete), and when."""

    by: str
    at: float


class KeyStatus(_Answer):
    """Whether callers without a key are refused, how many keys are known, and who called without one how often."""

    mode: Literal["grace", "enforce"]
    known: int
    callers: dict[str, int] = {}


class Shadowed(_Answer):
    """Of a route whose answers vLLM is asked for as well: the share, and what became of the samples since the start."""

    percent: float
    sampled: int = 0
    sent: int = 0
    dropped: int = 0


class Circuit(_Answer):
    """For how many seconds an engine still gets no requests, and who says so: the guard, or the gateway itself."""

    out: float = 0
    by: str | None = None


class GatewayStatus(_Answer):
    """The gateway's state: weights 0..100 per route; counts per route, side and outcome since its start.

    `by` and `changed` (epoch seconds) tell who last changed the weights, and when.
    """

    stack: str
    role: str
    version: int
    weights: dict[str, float]
    by: str | None = None
    changed: float | None = None
    hold: Hold
    lease: Lease | None = None
    live: Live
    counts: dict[str, dict[Side, dict[str, int]]] = {}
    failovers: dict[str, int] = {}
    replicas: dict[str, dict[str, Replica]] = {}
    circuits: dict[str, Circuit] = {}
    touched: dict[str, Touched] = {}
    shadow: dict[str, Shadowed] = {}
    keys: KeyStatus | None = None


class LogRecord(_Answer):
    """One request as the gateway saw it. `ts`: its start, epoch seconds; `ttft_ms`: to the first body byte."""

    ts: float
    id: str
    route: str | None
    model: str | None
    side: Side
    engine: str | None
    replica: str | None = None
    via: Literal["ollama", "direct", "adapter"]
    method: str
    uri: str
    status: int
    outcome: Literal["complete", "error", "truncated", "client_left", "refused"]
    ttft_ms: float | None
    total_ms: float
    bytes_: int = Field(alias="bytes")
    weight: float | None
    failover: bool
    forced: bool
    version: int | None
    upstream: str | None
    held_ms: float | None = None


class Gateway:
    """The control door at `base_url`; `token` opens it."""

    def __init__(
        self,
        base_url: str,
        token: str,
        transport: httpx.BaseTransport | None = None,
        *,
        timeout_s: float = 10.0,
    ) -> None:
        self.base_url = base_url.rstrip("/")
        self._http = httpx.Client(
            base_url=self.base_url,
            headers={"Authorization": f"Bearer {token}"},
            transport=transport,
            timeout=timeout_s,
            trust_env=False,
        )

    def close(self) -> None:
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def status(self) -> GatewayStatus:
        return self._parse(GatewayStatus, self._ask("GET", "/control/status"))

    def set_weights(self, weights: Mapping[str, float], version: int | None, by: str) -> int:
        """Set the given routes' weights on top of `version` and return the new version.

        Without a version only a lowering is accepted. Raises Conflict when the version is not the current one.
        """
        body = {"version": version, "weights": dict(weights), "by": by}
        return int(self._object(self._ask("POST", "/control/weights", json=body))["version"])

    def lease(self, owner: str, seconds: float, fallback: Mapping[str, float]) -> Lease:
        """Hold the traffic for `seconds`; once it runs out the guard returns to `fallback`."""
        body = {"owner": owner, "seconds": seconds, "fallback": dict(fallback)}
        return self._parse(Lease, self._ask("POST", "/control/lease", json=body), "lease")

    def release(self, owner: str) -> None:
        self._ask("POST", "/control/lease", json={"owner": owner, "seconds": 0})

    def hold(self, *, on: bool, seconds: float = 0, route: str | None = None, most: int | None = None) -> None:
        """Let new requests of a route (none: all) wait, at most `most` of them for at most `seconds`, or let them go.

        They go in the order in which they came, wherever the weights then say; more than `most` get a 503 with
        Retry-After. Clients wait no longer than their own patience.
        """
        body = {"on": on, "seconds": seconds, "route": route, "most": most}
        self._ask("POST", "/control/hold", json=body)

    def let_back(self, replica: str) -> None:
        """Send requests to an engine or replica again that was taken out, its failures forgiven."""
        self._ask("POST", "/control/replica", json={"replica": replica, "seconds": 0})

    def log(self, start: int = 0) -> tuple[list[LogRecord], int]:
        """Return the requests logged from byte `start` on (one page), and where to go on."""
        answer = self._ask("GET", "/control/log", params={"from": start})
        try:
            records = [LogRecord.model_validate_json(line) for line in answer.content.splitlines() if line]
            return records, int(answer.headers["X-Next"])
        except (ValidationError, KeyError, ValueError) as error:
            raise self._unreadable(answer, error) from error

    def log_end(self) -> int:
        """Return the byte offset behind the newest record."""
        return self.log(BEYOND)[1]

    def log_tail(self, most: int = 1_000_000) -> tuple[list[LogRecord], int]:
        """Return the records in the last `most` bytes of the log, and where to go on."""
        end = self.log_end()
        if end <= most:
            return self.log()
        answer = self._ask("GET", "/control/log", params={"from": end - most})
        whole = answer.content.split(b"\n", 1)[-1]      # the first one is cut
        try:
            records = [LogRecord.model_validate_json(line) for line in whole.splitlines() if line]
            return records, int(answer.headers["X-Next"])
        except (ValidationError, KeyError, ValueError) as error:
            raise self._unreadable(answer, error) from error

    def side_url(self, side: Side) -> str:
        """Return the base URL under which every request goes to `side`; it needs `auth_headers`."""
        return f"{self.base_url}/side/{side}"

    @property
    def auth_headers(self) -> dict[str, str]:
        return {"Authorization": self._http.headers["Authorization"]}

    def _ask(self, method: str, path: str, **request: Any) -> httpx.Response:
        try:
            answer = self._http.request(method, path, **request)
        except httpx.HTTPError as error:
            raise MigrateError(
                f"the gateway's control door at {self.base_url} does not answer",
                hint="`migrate status` shows whether the gateway runs; `migrate logs gateway` why it does not",
                evidence=str(error) or type(error).__name__,
            ) from error
        if answer.is_success:
            return answer
        raise self._refusal(answer)

    def _refusal(self, answer: httpx.Response) -> MigrateError:
        try:
            body = answer.json()
        except ValueError:
            body = None
        said = body if isinstance(body, dict) else {}
        if answer.status_code == 409 and isinstance(said.get("version"), int):
            return Conflict(said["version"])
        hint = "`migrate logs gateway` shows more"
        if answer.status_code == 401:
            hint = "the token in the stack's folder is not the one the gateway was started with: restart the gateway"
        elif answer.status_code == 404:
            hint = "something else may listen at this address: compare the ports in the stack file"
        return MigrateError(
            f"the gateway refused {answer.request.method} {answer.request.url.path} ({answer.status_code})",
            hint=hint,
            evidence=str(said.get("error", answer.text[:500])),
        )

    def _unreadable(self, answer: httpx.Response, error: Exception) -> MigrateError:
        return MigrateError(
            f"the gateway's answer to {answer.request.url.path} is not what this version of migrate expects",
            hint="`migrate up` renders and starts the gateway of this version",
            evidence=str(error)[:500],
        )

    def _object(self, answer: httpx.Response) -> dict[str, Any]:
        try:
            body = json.loads(answer.content)
        except ValueError as error:
            raise self._unreadable(answer, error) from error
        if not isinstance(body, dict):
            raise self._unreadable(answer, TypeError(f"not an object: {answer.text[:200]}"))
        return body

    def _parse(self, model: type[Model], answer: httpx.Response, key: str = "") -> Model:
        body = self._object(answer)
        try:
            return model.model_validate(body[key] if key else body)
        except (ValidationError, KeyError) as error:
            raise self._unreadable(answer, error) from error
