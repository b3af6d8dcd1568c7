"""The one door to python-on-whales: every Docker command passes here, every failure leaves as a MigrateError."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.clients.docker.errors import explain, not_installed, taken_port
from orchestrator.clients.docker.ports import listening_process

if TYPE_CHECKING:
    from python_on_whales import DockerClient


Progress = Callable[[str], None]
# These start nothing, yet Compose reads the whole file for them and demands its secrets: going back must not need one.
LEAVING = frozenset({"stop", "down", "logs", "config --services"})


class Cli:
    """Runs docker commands for one daemon and, when given, one Compose project; imports the library at first use."""

    def __init__(
        self,
        project: str = "",
        directory: Path | None = None,
        files: Sequence[Path] = (),
        env_files: Sequence[Path] = (),
    ) -> None:
        self._settings: dict[str, Any] = {}
        if project:
            self._settings = {
                "compose_project_name": project,
                "compose_project_directory": directory,
                "compose_files": list(files),
                "compose_env_files": list(env_files),
            }
        self._client: DockerClient | None = None

    @property
    def client(self) -> DockerClient:
        """The client; MigrateError when there is no docker command (the library would download one)."""
        if self._client is None:
            if shutil.which("docker") is None:
                raise not_installed()
            from python_on_whales import DockerClient

            self._client = DockerClient(**self._settings)
        return self._client

    def docker(self, *args: object) -> str:
        """Runs `docker ARGS`; returns its standard output."""
        return self._run([*self.client.client_config.docker_cmd, *args])

    def compose(self, *args: object, profile: str = "") -> str:
        """Runs `docker compose ARGS` for the project, with that profile; returns its standard output."""
        first = ["--profile", profile] if profile else []
        return self._run([*self.client.client_config.docker_compose_cmd, *first, *args], _unasked(args))

    def docker_lines(self, *args: object) -> Iterator[tuple[str, str]]:
        """Runs `docker ARGS`; yields ("stdout" | "stderr", line) as they come."""
        return self._stream([*self.client.client_config.docker_cmd, *args])

    def compose_lines(self, *args: object) -> Iterator[tuple[str, str]]:
        return self._stream([*self.client.client_config.docker_compose_cmd, *args], _unasked(args))

    def _run(self, command: list[object], env: dict[str, str] | None = None) -> str:
        from python_on_whales.exceptions import DockerException
        from python_on_whales.utils import run

        try:
            return str(run(command, env=env or {}))
        except DockerException as refused:
            raise explain(
                command, refused.return_code, refused.stderr or "", self._holder(refused.stderr or "")
            ) from None

    def _stream(self, command: list[object], env: dict[str, str] | None = None) -> Iterator[tuple[str, str]]:
        from python_on_whales.exceptions import DockerException
        from python_on_whales.utils import stream_stdout_and_stderr

        try:
            for source, line in stream_stdout_and_stderr(command, env=env or {}):
                yield source, line.decode(errors="replace").rstrip("\r\n")
        except DockerException as refused:
            raise explain(
                command, refused.return_code, refused.stderr or "", self._holder(refused.stderr or "")
            ) from None

    def _holder(self, stderr: str) -> str:
        """Who has the port that was refused: a container by its name, else a process of this host."""
        port = taken_port(stderr)
        if port is None:
            return ""
        try:
            names = self.docker("ps", "--filter", f"publish={port[1]}", "--format", "{{.Names}}").split()
        except Exception:  # noqa: BLE001 - this only adds to an error that is being told already
            names = []
        return f"container {names[0]}" if names else listening_process(port[1])


def _unasked(args: Sequence[object]) -> dict[str, str]:
    """What stands in for the secrets that a command does not use."""
    words = {str(args[0]), " ".join(map(str, args[:2]))}
    return {"HF_TOKEN": "not-used"} if words & LEAVING and "HF_TOKEN" not in os.environ else {}
