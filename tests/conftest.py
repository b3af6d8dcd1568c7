"""What all suites share: a generated example may take its time, as other work may share the machine."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("steady", deadline=None)
settings.load_profile("steady")
