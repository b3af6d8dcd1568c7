"""`migrate export litellm`: the stack's models for a LiteLLM proxy, for development and production."""

from __future__ import annotations

import re
from pathlib import Path

from orchestrator import render
from orchestrator.commands.session import workspace
from orchestrator.console import Console
from orchestrator.decide.litellm import litellm
from orchestrator.errors import ExitCode, MigrateError, UsageError
from orchestrator.flags import Common

FORMATS = ("litellm",)


def export(console: Console, common: Common, kind: str, *, out: str | None = None, base_url: str | None = None) -> int:
    """Write the files of `kind` into the folder `out`, by default the working folder; never over a changed file."""
    if kind not in FORMATS:
        raise UsageError(f"there is no export {kind!r}", hint=f"known: {', '.join(FORMATS)}")
    if base_url and not re.fullmatch(r"https?://[^\s'\"`\\]+", base_url):
        raise UsageError(f"--base-url {base_url!r} is no URL", hint="such as http://gpu-server:11434/v1")
    spec = workspace(common).spec()
    if not spec.migrating():
        raise UsageError(f"the stack {spec.name} migrates no model", hint="name an engine for a route in migrate.yaml")
    files = litellm(spec, prod=base_url)
    folder = Path(out or ".")
    changed = [str(folder / name) for name, text in files.items() if _differs(folder / name, text)]
    if changed:
        raise UsageError(f"{', '.join(changed)} exists and says something else",
                         hint="move it away, or choose another folder: --out DIR")  # fmt: skip
    try:
        folder.mkdir(parents=True, exist_ok=True)
        render.write(folder, files)
    except OSError as error:
        raise MigrateError(f"cannot write into {folder}: {error.strerror or error}",
                           hint="choose a folder you may write: --out DIR") from error  # fmt: skip
    written = [str(folder / name) for name in files]
    console.answer("Wrote " + " and ".join(written), {"files": written})
    return ExitCode.DONE


def _differs(path: Path, text: str) -> bool:
    try:
        return path.read_bytes() != text.encode()
    except FileNotFoundError:
        return False
    except OSError:
        return True
