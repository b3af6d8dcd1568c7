"""Scrapes of the gateway's metrics, and a gateway of a test's own."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from gateway_bench import Bench
from gateway_fakes import Fake
from gateway_harness import Nginx, Ports
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_open
from prometheus_client.parser import text_string_to_metric_families as read_plain

OPEN = "application/openmetrics-text; version=1.0.0"
PREFIX = "migrate_gateway_"


class Samples:
    """What one scrape said; `of` sums what has all the labels."""

    def __init__(self, nginx: Nginx, accept: str = OPEN) -> None:
        answer = nginx.ask("GET", "/metrics", headers={"Accept": accept})
        assert answer.status_code == 200, answer.text
        self.type, self.text = answer.headers["content-type"], answer.text
        read = read_open if accept == OPEN else read_plain
        self.families = list(read(answer.text))
        self.samples = [sample for family in self.families for sample in family.samples]

    def of(self, name: str, **labels: str) -> float:
        found = [s.value for s in self.samples if s.name == PREFIX + name and labels.items() <= s.labels.items()]
        return sum(found)

    def by(self, name: str, label: str) -> Counter[str]:
        found: Counter[str] = Counter()
        for sample in self.samples:
            if sample.name == PREFIX + name:
                found[sample.labels[label]] += sample.value
        return found


def requests(now: Samples) -> Counter[tuple[str, ...]]:
    names = ("door", "route", "side", "engine", "replica", "path", "outcome", "code")
    return Counter({tuple(s.labels[n] for n in names): s.value for s in now.samples if s.name == f"{PREFIX}requests_total"})


def settled(nginx: Nginx, at_least: float = 0) -> Samples:
    """Return a scrape that knows of all that has ended: each worker tells of its own once a second."""
    until = time.monotonic() + 20
    while True:
        done = sum(n for sides in nginx.status()["counts"].values() for side in sides.values() for n in side.values())
        now = Samples(nginx)
        if done >= at_least and now.of("requests_total") == done:
            return now
        assert time.monotonic() < until, (done, now.of("requests_total"))
        time.sleep(0.1)


def after(nginx: Nginx, before: Samples, count: int) -> Samples:
    """Return the first scrape that knows of `count` more requests, and all there are."""
    wanted = before.of("requests_total") + count
    now = settled(nginx, wanted)
    assert now.of("requests_total") == wanted
    return now


def ended(bench: Bench, count: int, act: Callable[[], object]) -> Counter[tuple[str, ...]]:
    """Return what `act` added to the requests that have ended."""
    before = settled(bench.nginx)
    act()
    return requests(after(bench.nginx, before, count)) - requests(before)


@contextmanager
def served(folder: Path, bench: Bench) -> Iterator[tuple[Nginx, dict[str, Fake]]]:
    """A gateway of a test's own, started, with an engine and an Ollama."""
    ports = Ports(21200)
    nginx = Nginx(folder, ports)
    upstreams = {name: Fake(name, port, bench.engine.loop) for name, port in (("ollama", ports.ollama), ("engine", ports.engine))}
    for fake in upstreams.values():
        fake.start()
    try:
        nginx.start()
        yield nginx, upstreams
    finally:
        nginx.remove()
        for fake in upstreams.values():
            fake.stop()
