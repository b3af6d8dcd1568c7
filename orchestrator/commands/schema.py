"""`migrate schema NAME`: the JSON Schema of what migrate answers and reads."""

from __future__ import annotations

import json
import sys

from orchestrator.commands.schema_forms import NAMES, form_of
from orchestrator.console import Console
from orchestrator.errors import ExitCode, UsageError
from orchestrator.flags import Common


def schema(console: Console, _common: Common, *, form: str) -> int:
    """Print one schema on stdout; raises UsageError for a name that there is not."""
    if form not in NAMES:
        raise UsageError(f"there is no form {form!r}", hint=f"migrate schema {'|'.join(NAMES)}")
    console.done()
    sys.stdout.write(json.dumps(form_of(form), indent=1) + "\n")
    return ExitCode.DONE
