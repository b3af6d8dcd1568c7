from __future__ import annotations

from collections.abc import Iterator

import pytest
from gateway_bench import Bench
from gateway_fakes import Fake, Loop
from gateway_harness import REPLICAS, ROUTES, Nginx, Ports


@pytest.fixture(scope="session")
def loop() -> Iterator[Loop]:
    loop = Loop()
    yield loop
    loop.close()


def fakes(loop: Loop, ports: Ports) -> list[Fake]:
    return [
        Fake("ollama", ports.ollama, loop),
        Fake("adapter", ports.adapter, loop),
        Fake("engine", ports.engine, loop),
    ]


@pytest.fixture(scope="session")
def shared_bench(loop: Loop, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    ports = Ports(21000)
    nginx = Nginx(tmp_path_factory.mktemp("gateway"), ports)
    replicas = {name: Fake(name, port, loop) for name, port in zip(REPLICAS, ports.replicas, strict=True)}
    bench = Bench(nginx, *fakes(loop, ports), replicas)
    try:
        nginx.start()
        yield bench
        print(nginx.logs())
    finally:
        nginx.remove()
        for fake in bench.fakes:
            fake.stop()


@pytest.fixture
def bench(shared_bench: Bench) -> Bench:
    """The shared gateway with every weight 0, every upstream up and friendly, an empty log."""
    for fake in shared_bench.fakes:
        fake.reset()
    answer = shared_bench.nginx.weights(dict.fromkeys(ROUTES, 0), None)
    assert answer.status_code == 200, answer.text
    shared_bench.nginx.ask("POST", "/control/hold", json={"on": False})
    shared_bench.nginx.ask("POST", "/control/replica", json={"replica": "one", "seconds": 0})
    shared_bench.nginx.forget_records()
    return shared_bench
