"""The suite's own modules are imported by name, also when pytest starts elsewhere."""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))
sys.path.append(str(HERE.parent / "integration"))  # the small engine before which the adapter is tested
sys.path.append(str(HERE.parent / "gateway"))  # the real gateway and how it is started
