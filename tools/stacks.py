"""Render the examples again after a change of templates or specs: python tools/stacks.py [FOLDER ...]."""

from __future__ import annotations

import sys
from pathlib import Path

from orchestrator.render import put, render
from orchestrator.spec import load_spec

ROOT = Path(__file__).resolve().parent.parent / "stacks"
OURS = {"migrate.yaml", "README.md", ".env"}


def main(folders: list[Path]) -> None:
    for folder in folders:
        files = render(load_spec(folder / "migrate.yaml"))
        for path in sorted(folder.rglob("*")):
            name = path.relative_to(folder).as_posix()
            if path.is_file() and name not in OURS and name not in files and not name.startswith("secrets/"):
                path.unlink()
        print(folder.name, *(put(folder, files) or ["is up to date"]))


if __name__ == "__main__":
    main([Path(name) for name in sys.argv[1:]] or sorted(path.parent for path in ROOT.glob("*/migrate.yaml")))
