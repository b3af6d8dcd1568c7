"""`migrate export`: the stack's models for a LiteLLM proxy, or a load test for other tools."""

from __future__ import annotations

import re
from pathlib import Path

from orchestrator import render
from orchestrator.commands.export_load import FORMATS, load_files
from orchestrator.commands.session import workspace
from orchestrator.console import Console
from orchestrator.decide.litellm import litellm
from orchestrator.errors import ExitCode, MigrateError, UsageError
from orchestrator.flags import Common

KINDS = ("litellm", "load")


def export(
    console: Console, common: Common, kind: str, *, out: str | None = None, base_url: str | None = None,
    form: str | None = None, model: str | None = None,
) -> int:
    """Write the files of `kind` into the folder `out`, by default the working folder; never over a changed file."""
    if kind not in KINDS:
        raise UsageError(f"there is no export {kind!r}", hint=f"known: {', '.join(KINDS)}")
    if base_url and not re.fullmatch(r"https?://[^\s'\"`\\]+", base_url):
        raise UsageError(f"--base-url {base_url!r} is no URL", hint="such as http://gpu-server:11434/v1")
    files = _load(common, form, base_url, model) if kind == "load" else _litellm(common, form, base_url, model)
    folder = Path(out or ".")
    changed = [str(folder / name) for name, text in files.items() if _differs(folder / name, text)]
    if changed:
        raise UsageError(f"{', '.join(changed)} exists and says something else",
                         hint="move it away, or choose another folder: --out DIR")  # fmt: skip
    try:
        folder.mkdir(parents=True, exist_ok=True)
        render.put(folder, files)
    except OSError as error:
        raise MigrateError(f"cannot write into {folder}: {error.strerror or error}",
                           hint="choose a folder you may write: --out DIR") from error  # fmt: skip
    written = [str(folder / name) for name in files]
    console.answer("Wrote " + " and ".join(written), {"files": written})
    return ExitCode.DONE


def _load(common: Common, form: str | None, base_url: str | None, model: str | None) -> dict[str, str]:
    if form is None:
        raise UsageError("as what?", hint=f"migrate export load --format {'|'.join(FORMATS)}")
    return load_files(common, form, base_url=base_url, model=model)


def _litellm(common: Common, form: str | None, base_url: str | None, model: str | None) -> dict[str, str]:
    if form or model:
        raise UsageError("--format and --model are for: migrate export load", hint="leave them out")
    spec = workspace(common).spec()
    if not spec.migrating():
        raise UsageError(f"the stack {spec.name} migrates no model", hint="name an engine for a route in migrate.yaml")
    return litellm(spec, prod=base_url)


def _differs(path: Path, text: str) -> bool:
    try:
        return path.read_bytes() != text.encode()
    except FileNotFoundError:
        return False
    except OSError:
        return True
