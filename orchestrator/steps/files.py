"""The stack's files on disk follow migrate.yaml."""

from __future__ import annotations

from typing import Any

from orchestrator import render
from orchestrator.steps import Context


class WriteFiles:
    """Renders the stack and writes what differs; Compose must accept it."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self.files = render.render(context.spec, context.facts)

    def already_done(self) -> bool:
        return all(self._same(name, text) for name, text in self.files.items())

    def do(self) -> dict[str, Any]:
        changed = render.write(self.context.dir, self.files)
        self.context.compose.config_check()
        return {"text": f"{len(changed)} files written", "changed": changed}

    def undo(self) -> None:
        """The files change nothing by themselves; the next run writes them again."""

    def _same(self, name: str, text: str) -> bool:
        path = self.context.dir / name
        return path.is_file() and path.read_bytes() == text.encode()
