"""What each command does: look, plan, run, show."""

from __future__ import annotations

import sys
import traceback
from importlib import import_module
from typing import Any

from orchestrator.console import Console
from orchestrator.errors import ExitCode, MigrateError
from orchestrator.flags import Common


def run(name: str, common: Common, arguments: dict[str, Any]) -> int:
    """Run the command `name`; returns the exit code. No traceback reaches a user without `-v`."""
    mode = "json" if common.progress == "auto" and common.json else str(common.progress)
    mode = "quiet" if common.quiet else mode
    console = Console(mode=mode, json_answer=common.json, no_color=common.no_color, verbose=common.verbose)
    try:
        return int(_command(name)(console, common, **arguments))
    except MigrateError as error:
        if common.verbose:
            console.done()
            traceback.print_exc(file=sys.stderr)
        console.error(error)
        return int(error.exit_code)
    except KeyboardInterrupt:
        console.error(MigrateError("left at once; the journal knows how far it came",
                                   hint="run the same command again to go on", code=ExitCode.INTERRUPTED))
        return ExitCode.INTERRUPTED
    except BrokenPipeError:
        return ExitCode.FAILED
    except Exception as error:  # noqa: BLE001 - the last net: a user gets a sentence, -v gets the traceback
        console.done()
        if common.verbose:
            traceback.print_exc(file=sys.stderr)
        console.error(MigrateError(f"unexpected {type(error).__name__}: {error}",
                                   hint="run it again with -v and report what it prints"))
        return ExitCode.FAILED
    finally:
        console.done()


# Where each command stands; only the one that is run is imported.
_WHERE = {
    "plan": "plan", "up": "move", "cutover": "move", "rollback": "move", "down": "move", "status": "show",
    "logs": "show", "facts": "facts", "doctor": "doctor", "scan": "scan", "export": "export", "schema": "schema",
    "keys": "keys", "load": "load", "selfcheck": "selfcheck", "shadow": "shadow", "report": "report",
    "verify": "report",
}  # fmt: skip


def _command(name: str) -> Any:
    return getattr(import_module(f"orchestrator.commands.{_WHERE[name]}"), name)
