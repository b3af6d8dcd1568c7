"""Code of an answer: run for what it does, and kept from everything else."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from orchestrator.checks.answers import sandbox
from orchestrator.checks.answers.sandbox import run_code


@pytest.mark.parametrize(
    "code, test",
    [
        ("def f(x):\n    return x + 1", "assert f(1) == 2"),
        ("from typing import List\nimport math, re, json, collections, itertools, functools, datetime", "assert math.pi > 3"),
        ("open('own.txt', 'w').write('x')", "assert open('own.txt').read() == 'x'"),
        ("print('words ' * 10)\nname = '안녕'", "assert name"),
    ],
)
def test_honest_code_runs(code, test):
    found = run_code(code, test)
    assert found["ok"], found["said"]


@pytest.mark.parametrize(
    "code, words",
    [
        ("def f(:", "does not compile"),
        ("\0", "does not compile"),
        ("def f():\n    return 1", "AssertionError"),
        ("import sys; sys.exit(0)", ""),
        ("import os; os._exit(0)", ""),
        ("raise SystemExit", ""),
        ("x = 'a' * 10**10", "MemoryError"),
        ("import os; os.system('id')", "not in here"),
        ("import subprocess; subprocess.run(['id'])", "not in here"),
        ("import os; os.fork()", "not in here"),
        ("import socket; socket.socket()", "not in here"),
        ("import ctypes", "not in here"),
        ("open('/etc/passwd').read()", "not in here"),
        ("import os; os.listdir('/etc')", "not in here"),
        ("open('/usr/lib/made', 'w')", "not in here"),
        ("import numpy", "ModuleNotFoundError"),
        ("def f(): return f()", "RecursionError"),
    ],
)
def test_what_it_may_not_do_fails(code, words):
    found = run_code(code, "assert f() == 2")
    assert not found["ok"]
    assert words in found["said"]


def test_a_word_like_the_one_at_the_end_does_not_pass():
    assert not run_code("print('passed')", "assert False")["ok"]


def test_endless_code_ends_and_so_does_its_output():
    assert "not done after 0.5 s" in run_code("while True: pass", "", 0.5)["said"]
    found = run_code("while True: print('x' * 1000)", "", 5)
    assert not found["ok"]
    assert len(found["said"]) <= 2000


def test_no_network_even_without_the_hook(monkeypatch):
    """Where the kernel gives a namespace, it alone is enough."""
    if not sandbox._without_network():
        pytest.fail("this kernel gives no network namespace: run the tests where it does")
    monkeypatch.setattr(sandbox, "_REFUSED", ())
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        found = run_code(f"import socket\nsocket.create_connection(('127.0.0.1', {port}), 1)", "")
    assert not found["ok"]
    assert "refused" in found["said"] or "unreachable" in found["said"]


def test_nothing_is_left_and_nothing_is_inherited(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    monkeypatch.setattr(sandbox.tempfile, "tempdir", str(tmp_path))
    found = run_code("import os\nprint(sorted(os.environ), os.getcwd())", "")
    assert found["ok"]
    assert "HF_TOKEN" not in found["said"]
    assert str(tmp_path) in found["said"]
    assert list(Path(tmp_path).iterdir()) == []
    assert Path.cwd() != Path(os.path.realpath(tmp_path))
