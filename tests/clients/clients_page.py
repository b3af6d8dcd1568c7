"""docs/clients.md, made from what the tests run: `python tests/clients/clients_page.py` writes it."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
PAGE = ROOT / "docs" / "clients.md"
sys.path.insert(0, str(HERE))

from clients_drivers import DRIVERS  # noqa: E402 - a script as well as a module
from clients_sequences import load  # noqa: E402
from compared import rows  # noqa: E402

HEAD = """# Clients

No client changes a line. `make test` runs each one below four times through the real gateway: every model on Ollama,
every model on vLLM behind gateway and adapter, vLLM gone at weight 100 (Ollama answers again), Ollama gone at weight
100. What a program can rely on must be the same: fields and their types, roles, reasons, tool calls, JSON, dimensions,
and for refusals the library's own exception and its words. Texts and numbers are the model's. A difference that is not
in the table below fails the tests, and so does a row of it without a difference. With vLLM gone there are none.
`make test-full` runs the libraries with a real vLLM as well.

This page is made by `python tests/clients/clients_page.py`; how the tests work is in
[tests/clients/README.md](../tests/clients/README.md).

## Libraries, unchanged

| library | version | calls |
|---|---|---|
"""
SCRIPTED = """
## Applications, as the calls they make

Written from their public source as data ([tests/clients/sequences](../tests/clients/sequences)): what they send, and
what they need of each answer.

| application | steps | source |
|---|---|---|
"""
DIFFERENT = """
## What differs while vLLM answers

| client | call | field | why |
|---|---|---|---|
"""


def version(name: str) -> str:
    """Return the pinned version of a library."""
    if name.endswith("-js"):
        pinned: dict[str, str] = json.loads((HERE / "js" / "package.json").read_text())["dependencies"]
        return pinned[name.removesuffix("-js")]
    found = re.search(rf"^{re.escape(name)}==(\S+)", (ROOT / "tools" / "clients.txt").read_text(), re.MULTILINE)
    assert found, f"{name} is not in tools/clients.txt"
    return found[1]


def calls(script: Path) -> list[str]:
    """Return the names of a script's cases, in their order."""
    text = script.read_text(encoding="utf-8")
    body = text[text.rindex("return {") :]
    pattern = r'^    "?([a-z][\w-]*)"?:' if script.suffix == ".mjs" else r'^ {8}"([\w-]+)":'
    return re.findall(pattern, body, re.MULTILINE)


def code(patterns: str) -> str:
    """Return a row's patterns as code, each on its own."""
    return ", ".join(f"`{one or 'all'}`" for one in patterns.split(", "))


def page() -> str:
    text = HEAD
    for name, script in DRIVERS.items():
        title = f"{name.removesuffix('-js')} (JavaScript)" if name.endswith("-js") else f"{name} (Python)"
        text += f"| {title} | {version(name)} | {', '.join(calls(HERE / script))} |\n"
    text += SCRIPTED
    for one in load(HERE / "sequences"):
        text += f"| {one.client} | {len(one.steps)} | {'<br>'.join(one.sources)} |\n"
    text += DIFFERENT
    for row in rows():
        more = "; more fields only" if row.only else ""
        more += "; only while Ollama is unreachable" if row.sides == "absent" else ""
        text += f"| {row.clients} | {code(row.cases)} | {code(row.paths)}{more} | {row.why} |\n"
    return text


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
