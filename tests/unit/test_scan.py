"""Callers of Ollama: what is found, what is not, and that the patch applies with the real git."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import decide_cases
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from orchestrator.cli import app
from orchestrator.decide.callers import find
from orchestrator.decide.callers.diff import migration
from orchestrator.observe.scan import Tally, walk

CASES = decide_cases.cases("scan")


def lay(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode())


def scan(*arguments: str) -> str:
    result = CliRunner().invoke(app, ["scan", *arguments])
    assert result.exit_code == 0, result.output
    return result.stdout


def test_there_are_cases() -> None:
    assert CASES


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_case(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    case = decide_cases.read(path)
    lay(tmp_path, case["files"])
    monkeypatch.chdir(tmp_path)
    found = json.loads(scan(".", "--json"))["callers"]
    said = sorted(f"{one['path']}:{one['line']} {one['kind']} {'works' if one['works'] else 'differs'}" for one in found)
    assert said == sorted(case["expect"])
    patch = scan(".", "--diff", "--base-url", "http://gpu:11434")
    for line in case.get("diff", ()):
        assert line in patch.splitlines()
    apply(patch, tmp_path)


def apply(patch: str, root: Path) -> None:
    if patch:
        file = root.parent / f"{root.name}.patch"
        file.write_bytes(patch.encode("utf-8", "surrogateescape"))
        subprocess.run(["git", "apply", "--whitespace=nowarn", str(file)], cwd=root, check=True,
                       env={**os.environ, "GIT_CEILING_DIRECTORIES": str(root.parent)})


@pytest.mark.parametrize("end", ["\n", "\r\n", ""])
def test_patch_keeps_line_ends_and_a_missing_last_one(end: str, tmp_path: Path) -> None:
    text = f'# ollama é\x0c{end or chr(10)}c = OpenAI(base_url="http://localhost:11434/v1", model="llama3.1:8b"){end}'
    patch = "".join(migration("src/a b.py", text, {"llama3.1:8b": "meta/L"}, "http://gpu:8/v1"))
    lay(tmp_path, {"src/a b.py": text})
    apply(patch, tmp_path)
    changed = text.replace("localhost:11434/v1", "gpu:8/v1").replace("llama3.1:8b", "meta/L")
    assert (tmp_path / "src/a b.py").read_bytes() == changed.encode()
    assert "meta/L" in changed


def test_native_clients_keep_their_address() -> None:
    text = 'import ollama\nc = ollama.Client(host="http://localhost:11434")\n'
    assert migration("a.py", text, {}, "http://gpu:11434/v1") == []


def test_links_binaries_and_other_trees_are_left_out(tmp_path: Path) -> None:
    text = 'x = "http://localhost:11434"\n'
    lay(tmp_path, dict.fromkeys(["a.py", "vendor/b.py", "env1/lib/c.py", "dist/d.js", ".git/e", "n/__pycache__/f"], text))
    lay(tmp_path, {"env1/pyvenv.cfg": "", "g.dat": "\0ollama", "h.py": "ollama " * 2000})
    (tmp_path / "loop").symlink_to(tmp_path)
    (tmp_path / "wide.py").write_bytes(text.encode("utf-16"))
    os.mkfifo(tmp_path / "pipe")
    tally = Tally()
    assert sorted(Path(path).name for path, _ in walk(tmp_path, tally)) == ["a.py", "wide.py"]
    assert tally.skipped["link"] == 1
    assert tally.skipped["not a regular file"] == 1


@pytest.mark.parametrize("data", [
    b"\xef\xbb\xbfimport ollama\nollama.chat(model='llama3.1:8b')\n",            # a mark of byte order
    b"# caf\xe9\nimport ollama\nx = dict(model='llama3.1:8b')  # \xe9t\xe9\n",      # Latin 1
    b"import ollama\r\nx = {'model': 'llama3.1:8b'}\r\ny = 1",                     # CRLF, no last one
    b"import ollama\n\x0cmodel = 'llama3.1:8b'\n\x1c\xc2\x85\n",                   # what only splitlines takes for an end
])
@pytest.mark.parametrize("tool", [["git", "apply", "--whitespace=nowarn"], ["patch", "-p1", "--binary", "-i"]])
def test_patch_of_odd_bytes_applies(data: bytes, tool: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "caf\u00e9 x.py").write_bytes(data)
    monkeypatch.chdir(tree)
    done = subprocess.run([sys.executable, "-m", "orchestrator", "scan", ".", "--diff"], check=True, capture_output=True,
                          env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])})
    (tmp_path / "p").write_bytes(done.stdout)
    subprocess.run([*tool, str(tmp_path / "p")], check=True, capture_output=True,
                   env={**os.environ, "GIT_CEILING_DIRECTORIES": str(tmp_path)})
    assert (tree / "caf\u00e9 x.py").read_bytes() == data.replace(b"llama3.1:8b", b"meta-llama/Llama-3.1-8B-Instruct")


def test_utf16_is_read_and_left_out_of_the_patch(tmp_path: Path) -> None:
    (tmp_path / "a.ps1").write_bytes("$env:OLLAMA_HOST = 'x'\n$model = 'llama3.1:8b'\n".encode("utf-16"))
    found = json.loads(scan(str(tmp_path), "--diff", "--json"))
    assert [one["line"] for one in found["callers"]] == [1]
    assert found["diff"] == ""
    assert found["skipped"] == {"UTF-16, not in the patch: edit by hand": 1}


def test_lines_are_those_of_an_editor() -> None:
    text = "x = 1\x0c\x1c\u2028\x85\nimport ollama\r\ny = 2\rimport ollama\n"
    assert [one.line for one in find("a.py", text)] == [2, 4]


def test_odd_trees_are_walked(tmp_path: Path) -> None:
    text = "import ollama\n"
    lay(tmp_path, {"\udce9.py": text, "a\nb.py": text, "env/a.env": "OLLAMA_HOST=x\n", "conda/conda-meta/x": "", "conda/y.py": text,
                   "old/bin/activate_this.py": "", "old/z.py": text,
                   "stacks/mine/compose.eager.yaml": "", "stacks/mine/compose.yaml": "image: ollama/ollama", "big.py": "#" * (5 << 20), "empty.py": ""})
    deep = tmp_path / Path(*["d"] * 200)
    deep.mkdir(parents=True)
    (deep / "deep.py").write_text(text)
    (tmp_path / "gone").symlink_to("nowhere")
    (tmp_path / "ring").symlink_to("ring")
    tally = Tally()
    found = sorted(Path(path).name for path, _ in walk(tmp_path, tally))
    assert found == sorted(["\udce9.py", "a\nb.py", "a.env", "deep.py"])
    assert tally.skipped == {"link": 2, "vendored or built folder": 3, "larger than 4 MiB": 1}
    assert scan(str(tmp_path))
    scan(str(tmp_path), "--diff")


def test_a_folder_that_may_not_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lay(tmp_path, {"a.py": "import ollama\n", "shut/b.py": "import ollama\n"})
    real = os.scandir

    def scandir(path):
        if str(path).endswith("shut"):
            raise PermissionError(13, "Permission denied")
        return real(path)

    monkeypatch.setattr("orchestrator.observe.scan.os.scandir", scandir)
    assert "Could not be read:" in (text := scan(str(tmp_path)))
    assert "1 place in 1 file" in text


def test_missing_paths_are_told_all_at_once(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["scan", str(tmp_path / "no1"), str(tmp_path / "no2")])
    assert result.exit_code == 2
    assert "no1" in result.output
    assert "no2" in result.output


@pytest.mark.parametrize(("line", "shown"), [
    ('curl -H "Authorization: Bearer sk-0123456789" http://localhost:11434/api/tags',
     'curl -H "Authorization: Bearer ***" http://localhost:11434/api/tags'),
    ("OLLAMA_HOST=http://me:pass%21word@gpu:11434", "OLLAMA_HOST=http://me:***@gpu:11434"),
    ('OpenAI(base_url="http://localhost:11434/v1", api_key="sk-abcdefgh")',
     'OpenAI(base_url="http://localhost:11434/v1", api_key="***")'),
    ('OpenAI(base_url="http://localhost:11434/v1", api_key="ollama")',
     'OpenAI(base_url="http://localhost:11434/v1", api_key="ollama")'),
    ('OpenAI(base_url="http://localhost:11434/v1", api_key=os.environ["K"])',
     'OpenAI(base_url="http://localhost:11434/v1", api_key=os.environ["K"])'),
    ("url = 'http://localhost:11434'  # max_tokens: 4096", "url = 'http://localhost:11434'  # max_tokens: 4096"),
])
def test_secrets_stay_out_of_the_report(line: str, shown: str) -> None:
    assert [one.text for one in find("a.py", line)] == [shown]


@given(st.sampled_from(["a.py", "b.ipynb", "c.md", "package.json"]), st.lists(st.one_of(st.text(), st.sampled_from([
    "ollama", ":11434", "/api/chat", "http://", "'", '"', "\n", "[]", "{}", '{"cells": [', "]}", "model=", "/v1",
])))) # fmt: skip
def test_no_text_breaks_it(path: str, parts: list[str]) -> None:
    text = "".join(parts)
    found = find(path, text)
    assert all(one.line > 0 and one.text for one in found)
    migration(path, text, {"ollama": "x/y"}, "http://gpu/v1")
