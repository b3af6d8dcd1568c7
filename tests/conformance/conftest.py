"""The suite's own modules are imported by name, also when pytest starts elsewhere."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))
sys.path.append(str(HERE.parent / "integration"))  # the small engine before which the adapter is tested
sys.path.append(str(HERE.parent / "gateway"))  # the real gateway and how it is started


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update", action="store_true", help="write docs/ollama-api.md when all of its rows hold")
