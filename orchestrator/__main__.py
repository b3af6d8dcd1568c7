"""`python -m orchestrator` is `migrate`."""

from orchestrator.cli import main

main()
