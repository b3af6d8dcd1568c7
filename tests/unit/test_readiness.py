"""`up` asks doctor first: what would certainly break is refused before anything is touched, and can be overridden."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import ThreadingHTTPServer
from pathlib import Path

import pytest
import yaml
from cli_stage import MODEL, migrate, ollama
from core_stack import open_journal
from test_cli import FAKE_DOCKER, free_port
from test_hub import Site

from orchestrator.clients.docker import Docker
from orchestrator.errors import MigrateError
from orchestrator.facts import DockerFacts, Facts, OllamaFacts
from orchestrator.observe import preflight as trials
from orchestrator.spec import load_spec


@pytest.fixture(scope="module")
def hub() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Site)
    server.seen, server.other = [], ""
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


@pytest.fixture
def stack(tmp_path: Path) -> Path:
    """A stack with vLLM's own image, and a Docker that only tells its version."""
    with ollama() as url:
        done = migrate(tmp_path, "plan", "--ollama", url, "--model", MODEL, "--cpu", HF_HUB_OFFLINE="1")
    assert done.returncode == 0, done.stderr
    fake = tmp_path / "bin" / "docker"
    fake.parent.mkdir()
    fake.write_text(FAKE_DOCKER, encoding="utf-8")
    fake.chmod(0o755)
    path = tmp_path / "stacks" / "main" / "migrate.yaml"
    spec = yaml.safe_load(path.read_text(encoding="utf-8"))
    spec["gateway"]["control_port"] = free_port()
    spec["ollama"]["container"] = "ollama"
    spec["images"] = {"vllm": "mirror.local/vllm-openai-cpu:v0.30.0"}
    path.write_text(yaml.safe_dump(spec, sort_keys=False), encoding="utf-8")
    return tmp_path


def engine(folder: Path, **keys: object) -> None:
    path = folder / "stacks" / "main" / "migrate.yaml"
    spec = yaml.safe_load(path.read_text(encoding="utf-8"))
    next(iter(spec["engines"].values())).update(keys)
    path.write_text(yaml.safe_dump(spec, sort_keys=False), encoding="utf-8")


def up(folder: Path, hub: str, *words: str, **environment: str):
    return migrate(folder, "up", "--yes", *words, PATH=str(folder / "bin"), HF_ENDPOINT=hub, **environment)


def journal(folder: Path):
    return open_journal(folder / "stacks" / "main" / ".state", load_spec(folder / "stacks" / "main" / "migrate.yaml"))


def test_a_licence_that_nobody_accepted_is_refused_before_anything(stack: Path, hub: str) -> None:
    engine(stack, repo="acme/gated")
    done = up(stack, hub)
    assert done.returncode == 3, done.stderr
    assert "nothing was touched" in done.stderr
    assert "token: acme/gated: gated" in done.stderr
    assert "fix: accept the licence" in done.stderr
    assert "--skip-doctor" in done.stderr
    assert journal(stack).entries("intent") == []
    assert journal(stack).runs()[-1]["code"] == 3


def test_every_error_is_told_at_once(stack: Path, hub: str) -> None:
    engine(stack, repo="acme/nothing")
    path = stack / "bin" / "docker"
    path.write_text(FAKE_DOCKER.replace("echo 2.33.1", "echo 1.29.2"), encoding="utf-8")
    done = up(stack, hub)
    assert done.returncode == 3, done.stderr
    assert "2 things" in done.stderr
    assert "Compose: 1.29.2" in done.stderr
    assert "repository: acme/nothing" in done.stderr


@pytest.mark.parametrize("flag", ["--skip-doctor", "--force"])
def test_an_override_goes_on_and_is_recorded(stack: Path, hub: str, flag: str) -> None:
    engine(stack, repo="acme/gated")
    done = up(stack, hub, flag)
    assert "not ready" not in done.stderr
    assert "went on against it" in done.stderr
    texts = [entry.text for entry in journal(stack).entries("warn")]
    assert any("as --skip-doctor says: token" in text for text in texts)
    assert any("acme/gated" in text for text in texts)


@pytest.mark.parametrize(
    ("repo", "environment", "keys"),
    [
        ("acme/gated", {"HF_HUB_OFFLINE": "1"}, {}),                      # nobody asks: not checked
        ("acme/down", {}, {}),                                            # the Hub is down: not checked
        ("acme/open", {}, {}),
        ("acme/gated", {"HF_TOKEN": "hf_secretsecret"}, {}),
        ("acme/gated", {}, {"image": "acme/stand-in:1"}),                 # whether that one loads weights is not known
        ("acme/gated", {}, {"env": {"HF_HUB_OFFLINE": "1"}}),             # the engine downloads nothing
    ],
)  # fmt: skip
def test_what_is_not_certain_does_not_stop(stack: Path, hub: str, repo: str, environment: dict, keys: dict) -> None:
    engine(stack, repo=repo, **keys)
    done = up(stack, hub, **environment)
    assert "is not ready" not in done.stderr
    assert "hf_secretsecret" not in done.stderr


def test_the_token_may_lie_in_the_stack(stack: Path, hub: str) -> None:
    engine(stack, repo="acme/gated")
    (stack / "stacks" / "main" / ".env").write_text("# token\nexport HF_TOKEN='hf_secretsecret'\n", encoding="utf-8")
    assert "is not ready" not in up(stack, hub).stderr


def test_doctor_asks_the_hub_too(stack: Path, hub: str) -> None:
    engine(stack, repo="acme/gated")
    done = migrate(stack, "doctor", "--json", "--stack", "main", PATH=str(stack / "bin"), HF_ENDPOINT=hub)
    assert done.returncode == 3, done.stderr
    told = json.loads(done.stdout)
    assert told["ready"] is False
    (token,) = [one for one in told["checks"] if one["name"] == "token"]
    assert (token["status"], token["blocks"]) == ("fail", True)


# -- the trials ---------------------------------------------------------------------------------------------


class Answers:
    """A Docker that knows some images and who holds which port."""

    def __init__(self, *images: str) -> None:
        self.images = images

    def image_exists(self, image: str) -> bool:
        if image == "broken":
            raise MigrateError("no")
        return image in self.images

    def port_holder(self, port: int) -> str:
        if port == 1:
            raise MigrateError("no")
        return f"nginx (pid {port})"


SPEC = load_spec(Path(__file__).parents[2] / "stacks" / "llama3-1-8b-24gb" / "migrate.yaml")
NAME = next(iter(SPEC.engines))
FACTS = Facts(OllamaFacts("", ""), docker=DockerFacts("28.0.1", "2.33.1"))


def looked(monkeypatch: pytest.MonkeyPatch, root: Path, spec=SPEC, facts: Facts = FACTS, **said: object):
    told = {"Runtimes": {"runc": {}}, "DockerRootDir": str(root), **said}
    monkeypatch.setattr(trials, "info", lambda: told)
    monkeypatch.setattr(trials, "mountpoint", lambda volume: str(root / "volumes" / volume / "_data"))
    monkeypatch.setattr(trials, "gpu_answer", lambda image: f"tried {image}")
    docker: Docker = Answers(SPEC.images.vllm)  # type: ignore[assignment]
    return trials.look(facts, spec, docker, {"HF_HUB_OFFLINE": "1", "HF_HOME": str(root)})


def test_weights_are_looked_for_where_the_engine_keeps_them(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    found = looked(monkeypatch, tmp_path)
    place = tmp_path / "volumes" / f"migrate-{SPEC.name}_hf-cache" / "_data"
    assert found.weights_at == {NAME: str(place)}
    assert found.weights_here == {NAME: 0}
    assert found.disk_free[str(place)] == found.disk_free[str(tmp_path)] > 0    # of the disk it will lie on
    assert found.disk_device[str(place)] == found.disk_device[str(tmp_path)]
    repo = SPEC.engines[NAME].repo.replace("/", "--")
    snapshot = place / "hub" / f"models--{repo}" / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (snapshot / "model.safetensors").write_bytes(b"x" * 1000)
    assert looked(monkeypatch, tmp_path).weights_here == {NAME: 1000}


def test_a_mount_on_the_cache_is_followed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    mount = f"{tmp_path}/big:/root/.cache/huggingface"
    own = SPEC.model_copy(update={"engines": {NAME: SPEC.engines[NAME].model_copy(update={"volumes": (mount,)})}})
    assert looked(monkeypatch, tmp_path, own).weights_at == {NAME: f"{tmp_path}/big"}


def test_nothing_raises_where_nothing_answers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    found = looked(monkeypatch, tmp_path / "not-there", facts=replace(FACTS, docker=None))
    assert (found.runtimes, found.docker_root, found.gpu_container, found.ports) == (None, "", None, {})
    assert looked(monkeypatch, tmp_path, None).weights_at == {}
    assert looked(monkeypatch, tmp_path, Runtimes=None, DiscoveredDevices=None).runtimes is None


def test_the_hub_that_does_not_answer_in_time_was_not_checked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    gate = threading.Event()
    monkeypatch.setattr(trials, "HUB_S", 0.01)
    monkeypatch.setattr(trials.hub_look, "look", lambda _repos, _hub: gate.wait(30) and {})
    found = looked(monkeypatch, tmp_path).hub
    gate.set()
    assert {one.state for one in found.values()} == {"not checked"}
    assert list(found) == [SPEC.engines[NAME].repo]
