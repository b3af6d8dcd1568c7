"""Makes the conformance suite's in-process servers available to the unit tests."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

_PATH = Path(__file__).parent.parent / "conformance" / "servers.py"
_SPEC = importlib.util.spec_from_file_location("standin_servers_module", _PATH)
assert _SPEC
assert _SPEC.loader
_MODULE = importlib.util.module_from_spec(_SPEC)
sys.modules[_SPEC.name] = _MODULE
_SPEC.loader.exec_module(_MODULE)

Running = _MODULE.Running
ollama = _MODULE.ollama
vllm = _MODULE.vllm
