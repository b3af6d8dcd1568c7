"""The pages of reports in a real browser: no error, no request, nothing that sticks out, and axe finds nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from clients_modules import ROOT, load

HERE = Path(__file__).parent
MOST = 1_500_000    # bytes
ALL = ("1280-light", "1280-dark", "390-light", "390-dark")
SOME = ("390-light", "1280-dark")


@pytest.fixture(scope="session")
def run() -> Any:
    """The run that code makes, of tests/report."""
    return load("clients_report_run", ROOT / "tests" / "report" / "report_run.py")


@pytest.fixture(scope="session")
def look() -> Callable[..., dict[str, Any]]:
    """Open a page as tests/clients/browser/look.mjs does."""
    made = subprocess.run([ROOT / "tools" / "browser"], capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stderr[-2000:]
    home, browser = made.stdout.split("\n")[:2]
    node = subprocess.run([ROOT / "tools" / "clients"], capture_output=True, text=True, check=True).stdout.strip()

    def seen(page: Path, screens: tuple[str, ...] = SOME) -> dict[str, Any]:
        shots = [os.environ["PAGE_SHOTS"]] if os.environ.get("PAGE_SHOTS") else []
        command = [f"{node}/bin/node", HERE / "browser" / "look.mjs", home, browser, page, ",".join(screens), *shots]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=280)
        assert done.returncode == 0, done.stderr[-4000:]
        return json.loads(done.stdout)

    return seen


def migrate(folder: Path, *words: str) -> None:
    environment = {"PYTHONPATH": str(ROOT), "PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/")}
    command = [sys.executable, "-m", "orchestrator", *words, "--file", str(folder / "migrate.yaml")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr


def fine(found: dict[str, Any]) -> None:
    for screen in found["screens"]:
        where = f"{screen['width']} px, {screen['colorScheme']}"
        for what in ("errors", "asked", "wide", "small", "violations"):
            assert screen[what] == [], f"{where}: {what}"
        assert screen["scripts"] == 0, where
        assert screen["passes"] > 10, where
    assert len({screen["background"] for screen in found["screens"]}) == 2      # light and dark
    assert found["print"] == {"wide": [], "background": "rgb(255, 255, 255)"}     # a dark screen prints white
    assert found["paper"] > 10_000


@pytest.mark.parametrize("stage", ["plan", "done"])
def test_a_report_is_fine_in_a_browser(run, look, tmp_path, stage):
    folder = run.make_run(tmp_path / "mine", stage=stage)
    migrate(folder, "report")
    page = folder / "report" / "report.html"
    assert page.stat().st_size < MOST
    fine(look(page, ALL if stage == "done" else SOME))


def test_odd_and_long_content_stays_on_the_page(run, look, tmp_path):
    folder = run.make_run(tmp_path / ("long-" * 7 + "name"), stage="up", odd=True)
    migrate(folder, "report")
    page = folder / "report" / "report.html"
    assert page.stat().st_size < MOST
    fine(look(page))


def test_the_page_of_one_load_test_is_fine(run, look, tmp_path):
    folder = run.make_run(tmp_path / "mine", stage="up")
    migrate(folder, "export", "load", "--format", "html", "--out", str(tmp_path / "out"))
    fine(look(next((tmp_path / "out").glob("*.html"))))
