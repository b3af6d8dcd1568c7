"""What is read out of `docker inspect`, and what a refusal of Docker is turned into."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.clients.docker import Docker, container_facts, is_ollama, ollama_port
from orchestrator.clients.docker.cli import Cli
from orchestrator.clients.docker.errors import explain, shown
from orchestrator.clients.docker.ports import listening_process
from orchestrator.errors import ExitCode, MigrateError


def inspected(**changes: Any) -> dict[str, Any]:
    """A running `docker run -p 127.0.0.1:11434:11434 --restart always ollama/ollama`, as the engine describes it."""
    raw: dict[str, Any] = {
        "Id": "4f66ad9a0b2e" + "0" * 52,
        "Name": "/ollama",
        "Image": "sha256:abc",
        "Path": "/bin/ollama",
        "Args": ["serve"],
        "State": {"Running": True, "Status": "running", "Pid": 321, "StartedAt": "2026-11-20T10:00:00Z", "ExitCode": 0},
        "Config": {"Image": "ollama/ollama:0.32.6", "Env": ["OLLAMA_HOST=0.0.0.0:11434", "A=b=c"], "Labels": None},
        "HostConfig": {
            "NetworkMode": "default",
            "RestartPolicy": {"Name": "always", "MaximumRetryCount": 0},
            "PortBindings": {"11434/tcp": [{"HostIp": "127.0.0.1", "HostPort": "11434"}]},
            "DeviceRequests": [{"Driver": "nvidia", "Count": -1, "DeviceIDs": None, "Capabilities": [["gpu"]]}],
        },
        "Mounts": [
            {"Type": "volume", "Name": "models", "Source": "/var/lib/x", "Destination": "/root/.ollama", "RW": True}
        ],
        "NetworkSettings": {
            "Ports": {
                "11434/tcp": [{"HostIp": "127.0.0.1", "HostPort": "11434"}],
                "9/udp": [{"HostIp": "", "HostPort": "9"}],
            },
            "Networks": {"apps": {"Aliases": ["ollama", "llm", "4f66ad9a0b2e"], "IPAddress": "172.18.0.2"}},
        },
    }
    return {**raw, **changes}


def test_a_container_is_read_in_full() -> None:
    facts = container_facts(inspected())
    assert (facts.name, facts.running, facts.restart, facts.pid) == ("ollama", True, "always", 321)
    assert [(one.host_ip, one.host_port, one.container_port) for one in facts.ports] == [("127.0.0.1", 11434, 11434)]
    assert facts.networks == {"apps": ("ollama", "llm")}
    assert (facts.mounts[0].source, facts.mounts[0].target) == ("models", "/root/.ollama")
    assert (facts.gpus[0].driver, facts.gpus[0].count, facts.gpus[0].capabilities) == ("nvidia", -1, ("gpu",))
    assert facts.env["A"] == "b=c"
    assert "OLLAMA_HOST" not in repr(facts)


def test_a_stopped_container_tells_the_ports_it_will_have() -> None:
    stopped = inspected(NetworkSettings={"Ports": {}, "Networks": {}}, State={"Running": False, "Status": "exited"})
    assert container_facts(stopped).ports == container_facts(inspected()).ports


@pytest.mark.parametrize(
    "image, path, args, is_one",
    [
        ("ollama/ollama:0.32.6", "/bin/ollama", ["serve"], True),
        ("registry.local/ml/llm:1", "/bin/sh", ["-c", "x", "/usr/bin/ollama", "serve"], True),
        ("registry.local/ml/llm:1", "/bin/ollama", ["run"], False),
        ("nginx:1", "nginx", [], False),
    ],
)
def test_an_ollama_is_known_by_image_or_command(image: str, path: str, args: list[str], is_one: bool) -> None:
    facts = container_facts(inspected(Path=path, Args=args, Config={"Image": image}))
    assert is_ollama(facts) is is_one


@pytest.mark.parametrize(
    "host, port", [("0.0.0.0:8000", 8000), ("http://0.0.0.0:9000/", 9000), ("0.0.0.0", 11434), ("", 11434)]
)
def test_the_inner_port_follows_ollama_host(host: str, port: int) -> None:
    config = {"Image": "ollama/ollama", "Env": [f"OLLAMA_HOST={host}"]}
    assert ollama_port(container_facts(inspected(Config=config))) == port


@pytest.mark.parametrize(
    "stderr, says",
    [
        ("Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?", "does not answer"),
        ("permission denied while trying to connect to the Docker daemon socket at unix:///x", "permission denied"),
        ("docker: 'compose' is not a docker command.\nSee 'docker --help'", "Compose v2 is missing"),
        ("docker: unknown command: docker compose\n\nRun 'docker --help' for more information", "Compose v2 is missing"),
        ("unknown flag: --short\n\nUsage:  docker [OPTIONS] COMMAND [ARG...]", "Compose v2 is missing"),
        ('could not select device driver "nvidia" with capabilities: [[gpu]].', "no GPU driver"),
        ("driver failed: Bind for 127.0.0.1:24000 failed: port is already allocated.", "Port 24000 on 127.0.0.1 is already taken by container web"),
        ("Error starting userland proxy: listen tcp4 0.0.0.0:24000: bind: address already in use", "Port 24000 on 0.0.0.0 is already taken by container web"),
        ("one\ntwo", "two"),
    ],
)  # fmt: skip
def test_a_refusal_is_explained_with_its_evidence(stderr: str, says: str) -> None:
    error = explain(["docker", "run", "x"], 125, stderr, holder="container web")
    assert says in error.message
    assert "$ docker run x" in error.evidence
    assert stderr.splitlines()[-1] in error.evidence


def test_no_value_of_a_variable_is_ever_shown() -> None:
    command = ["docker", "run", "--env", "HF_TOKEN=hf_secret", "--env=KEY=sesame", "-e", "B=c", "image", "a=b"]
    line = shown(command)
    assert "secret" not in line
    assert "sesame" not in line
    assert "HF_TOKEN=…" in line
    assert "a=b" in line


def test_without_a_docker_command_nothing_is_downloaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(MigrateError, match="Docker is not installed") as raised:
        Cli().docker("ps")
    assert raised.value.exit_code == ExitCode.USAGE
    assert Docker().version() is None


def test_the_process_that_listens_is_named() -> None:
    import os
    import socket

    with socket.create_server(("127.0.0.1", 0)) as server:
        found = listening_process(server.getsockname()[1])
    assert f"(pid {os.getpid()})" in found
    assert listening_process(1) == ""
