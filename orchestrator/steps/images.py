"""Images are fetched, or built, before anything that serves is touched."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from orchestrator.errors import MigrateError
from orchestrator.events import Kind
from orchestrator.steps import Context


class FetchImage:
    """Has one image on this Docker Engine: pulled, or built if it is the sidecar's."""

    def __init__(self, context: Context, image: str) -> None:
        self.context = context
        self.image = image

    def already_done(self) -> bool:
        return self.context.docker.image_exists(self.image)

    def do(self) -> dict[str, Any]:
        if self.image == self.context.spec.images.sidecar:
            return self._build()
        return self._pull()

    def undo(self) -> None:
        """Docker keeps the layers it has; a second try goes on from there."""

    def _pull(self) -> dict[str, Any]:
        try:
            for line in self.context.docker.image_pull(self.image):
                self.context.say(f"fetch-image {self.image}", line, Kind.WAIT, reason="pulling")
                self.context.stop.check()
        except MigrateError as error:
            hint = f"check the network and the name, or set another image in {self.context.dir / 'migrate.yaml'}"
            raise MigrateError(
                f"cannot pull the image {self.image}", hint=hint, evidence=error.evidence or error.message
            ) from error
        return {"text": "pulled", "digest": self.context.docker.image_digest(self.image)}

    def _build(self) -> dict[str, Any]:
        package = Path(__file__).resolve().parent.parent
        arguments = {"PYTHON_IMAGE": self.context.spec.images.python}
        dockerfile = package / "adapter" / "Dockerfile"
        try:
            for line in self.context.docker.image_build(package, self.image, args=arguments, dockerfile=dockerfile):
                self.context.say(f"fetch-image {self.image}", line, Kind.WAIT, reason="building")
        except MigrateError as error:
            hint = "the build needs the base image images/python and the Python package index"
            raise MigrateError(
                f"cannot build the image {self.image}", hint=hint, evidence=error.evidence or error.message
            ) from error
        return {"text": f"built from {self.context.spec.images.python}"}
