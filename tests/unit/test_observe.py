"""What is taken over from the original container: everything but what the image sets, what we set, and secrets."""

from __future__ import annotations

import pytest

from orchestrator.clients.docker import ContainerFacts, GpuRequest, MountFacts, PortFacts
from orchestrator.errors import UsageError
from orchestrator.observe import docker as look

IMAGE_ENV = {"PATH": "/bin", "OLLAMA_HOST": "0.0.0.0:11434", "LD_LIBRARY_PATH": "/usr/local/nvidia/lib"}


class Engine:
    """A Docker that has these containers."""

    def __init__(self, *found):
        self.found = found

    def containers(self, *, running=False):
        return [one for one in self.found if one.running or not running]

    def ollamas(self):
        return list(self.found)

    def image_env(self, _image):
        return IMAGE_ENV


def container(**changed):
    values = {
        "id": "abc", "name": "ollama", "image": "ollama/ollama:0.32.6", "image_id": "sha256:1", "running": True,
        "status": "running", "command": ("/bin/ollama", "serve"), "env": IMAGE_ENV,
        "ports": (PortFacts("127.0.0.1", 11434, 11434),), "networks": {"bridge": ()},
    }
    return ContainerFacts(**{**values, **changed})


def seen(**changed):
    return look.container_at(Engine(container(**changed)), "http://localhost:11434")


def test_environment_without_the_images_own_and_without_secrets():
    env = {**IMAGE_ENV, "OLLAMA_NUM_PARALLEL": "4", "HTTPS_PROXY": "http://p", "OLLAMA_API_KEY": "s3cret",
           "HF_TOKEN": "s3cret", "STANDIN_TOKEN_MS": "8", "PATH": "/bin:/more",
           "HTTP_PROXY": "http://me:s3cret@p:3128", "DB_PASS": "s3cret", "AWS_ACCESS_KEY_ID": "s3cret"}
    found = seen(env=env)
    assert found.env == {"OLLAMA_NUM_PARALLEL": "4", "HTTPS_PROXY": "http://p", "STANDIN_TOKEN_MS": "8",
                         "PATH": "/bin:/more"}
    assert found.withheld == ("AWS_ACCESS_KEY_ID", "DB_PASS", "HF_TOKEN", "HTTP_PROXY", "OLLAMA_API_KEY")
    assert "s3cret" not in repr(found)


def test_mounts_networks_gpus_and_restart_policy():
    found = seen(
        mounts=(MountFacts("volume", "models", "/root/.ollama", False), MountFacts("bind", "/x", "/y", True),
                MountFacts("tmpfs", "", "/tmp", False)),
        networks={"bridge": (), "apps": ("llm",)}, restart="always",
        gpus=(GpuRequest("nvidia", 0, ("0", "1"), ("gpu",)),),
    )
    assert found.volumes == ("models:/root/.ollama", "/x:/y:ro")
    assert found.networks == {"apps": ("ollama", "llm")}
    assert (found.restart, found.gpus) == ("always", ("0", "1"))
    assert seen(gpus=(GpuRequest("nvidia", -1, (), ("gpu",)),)).gpus == ("all",)
    assert seen().gpus is None


@pytest.mark.parametrize("url", ["http://elsewhere:11434", "http://10.0.0.1:11434", "http://127.0.0.1:8080"])
def test_another_host_or_port_is_not_this_container(url):
    assert look.container_at(Engine(container()), url) is None


def test_our_own_gateway_is_not_the_original():
    ours = container(labels={"org.migrate.stack": "main"})
    assert look.container_at(Engine(ours), "http://127.0.0.1:11434") is None
    assert look.running_ollama(Engine(ours)) is None


def test_several_ollamas_must_be_told_apart():
    with pytest.raises(UsageError, match="one, two"):
        look.running_ollama(Engine(container(name="one"), container(name="two")))
    assert look.running_ollama(Engine(container(name="one"))).name == "one"
    assert look.running_ollama(Engine()) is None
