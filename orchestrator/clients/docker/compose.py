"""Docker Compose v2 for one stack."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from orchestrator.clients.docker.cli import Cli, Progress


class Compose:
    """The commands of one Compose project; made by `Docker.compose`."""

    def __init__(self, project: str, directory: Path, files: Sequence[Path], env_files: Sequence[Path] = ()) -> None:
        self.project = project
        self._cli = Cli(project, directory, files, env_files)

    def config_check(self) -> None:
        """Has Compose accept the files; needs no daemon. MigrateError carries Compose's own words."""
        self._cli.compose("config", "--quiet")

    def up(self, services: Sequence[str] = (), *, no_deps: bool = False, on_line: Progress | None = None) -> None:
        """Creates and starts in the background; what runs as the files say is left alone."""
        args = ["up", "--detach", "--no-build", *(["--no-deps"] if no_deps else [])]
        for _, line in self._cli.compose_lines(*args, *services):
            if on_line:
                on_line(line)

    def create(self, services: Sequence[str] = (), *, no_deps: bool = False) -> None:
        """Creates the containers without starting them, so that a later start is quick."""
        self._cli.compose("up", "--no-start", "--no-build", *(["--no-deps"] if no_deps else []), *services)

    def stop(self, *services: str, grace_s: int | None = None) -> None:
        """Stops services (all when none is named); each gets grace_s seconds (default: its own) to finish."""
        self._cli.compose("stop", *(["--timeout", grace_s] if grace_s is not None else []), *services)

    def down(self, *, volumes: bool = False) -> None:
        """Removes everything, also what only a profile starts: left behind, it would keep the network."""
        self._cli.compose("down", "--remove-orphans", *(["--volumes"] if volumes else []), profile="monitoring")

    def services(self) -> list[str]:
        return self._cli.compose("config", "--services").split()

    def logs(self, services: Sequence[str] = (), *, tail: int | None = None, follow: bool = False) -> Iterator[str]:
        """Log lines of the services, each with its service's name in front."""
        args = ["logs", "--no-color", *(["--tail", str(tail)] if tail is not None else [])]
        for _, line in self._cli.compose_lines(*args, *(["--follow"] if follow else []), *services):
            yield line
