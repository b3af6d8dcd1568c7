"""`migrate keys`: what is shown once, what is kept, what is refused."""

from __future__ import annotations

import hashlib
import json
import threading
from pathlib import Path
from typing import Any

import pytest
import yaml

from orchestrator import commands
from orchestrator.flags import Common, Progress


class Keys:
    """Runs the command on a stack in `folder`."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str], gateway: dict[str, Any] | None) -> None:
        self.folder, self.capsys = folder / "demo", capsys
        self.folder.mkdir()
        (self.folder / "migrate.yaml").write_text(yaml.safe_dump({"name": "demo", "gateway": gateway or {}}))
        self.file = self.folder / "keys" / "clients"

    def run(self, *words: str) -> int:
        common = Common(None, str(self.folder), False, False, False, True, Progress.PLAIN)
        return commands.run("keys", common, {"action": words[0], "owner": words[1] if len(words) > 1 else None})

    def told(self, *words: str) -> tuple[int, str, str]:
        self.capsys.readouterr()
        code = self.run(*words)
        out, err = self.capsys.readouterr()
        return code, out, err

    def lines(self) -> list[str]:
        return self.file.read_text().splitlines()


@pytest.fixture
def keys(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Keys:
    return Keys(tmp_path, capsys, {"keys": {}})


def test_a_key_is_shown_once_and_its_hash_kept(keys: Keys) -> None:
    code, out, _ = keys.told("add", "the team")
    key = out.split()[0]
    assert (code, key[:11]) == (0, "sk-migrate-")
    assert keys.lines() == [f"{hashlib.sha256(key.encode()).hexdigest()}  the team"]
    assert key not in keys.told("list")[1]
    assert keys.told("add", "ci")[1].split()[0] != key
    assert "the team\nci\n2 keys" in keys.told("list")[1]


def test_lines_of_other_hands_stay(keys: Keys) -> None:
    keys.file.parent.mkdir()
    hashed = hashlib.sha256(b"x").hexdigest()
    keys.file.write_text(f"# ours\nsha256:{hashed.upper()} old\nnonsense\n")
    keys.run("add", "new")
    assert keys.lines()[:3] == ["# ours", f"sha256:{hashed.upper()} old", "nonsense"]
    assert keys.run("remove", "old") == 0
    assert keys.lines()[:2] == ["# ours", "nonsense"]
    assert len(keys.lines()) == 3


def test_the_mode_is_changed_in_the_file(keys: Keys) -> None:
    keys.run("add", "a")
    for mode in ("enforce", "grace", "enforce"):
        assert keys.run(mode) == 0
        assert [line for line in keys.lines() if line.startswith("mode")] == [f"mode {mode}"]
    assert "mode enforce" in keys.told("list")[1]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("add",), "needs a NAME"), (("list", "x"), "needs no name"), (("open",), "there is no `migrate keys open`"),
        (("add", "#x"), "cannot name a key"), (("add", "a\nb"), "cannot name a key"), (("add", ""), "cannot name a key"),
        (("add", "x" * 65), "cannot name a key"), (("remove", "x"), "has no key named"), (("add", "taken"), "has a key already"),
    ],
)  # fmt: skip
def test_what_is_refused(keys: Keys, words: tuple[str, ...], says: str) -> None:
    keys.run("add", "taken")
    before = keys.lines()
    code, out, err = keys.told(*words)
    assert (code, out) == (2, "")
    assert says in err
    assert keys.lines() == before


def test_a_stack_that_asks_for_none_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    keys = Keys(tmp_path, capsys, None)
    code, _, err = keys.told("add", "ci")
    assert code == 0
    assert "asks for no keys yet" in err
    assert len(keys.lines()) == 1


def test_a_file_that_cannot_be_is_no_traceback(keys: Keys) -> None:
    keys.file.mkdir(parents=True)
    code, _, err = keys.told("add", "ci")
    assert code == 2
    assert "Traceback" not in err
    keys.file.rmdir()
    keys.file.write_bytes(b"\xff\xfe")
    assert keys.told("list")[0] == 2


def test_many_at_once_lose_none(keys: Keys) -> None:
    threads = [threading.Thread(target=keys.run, args=("add", f"n{n}")) for n in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(keys.lines()) == 12


def test_json(keys: Keys) -> None:
    common = Common(None, str(keys.folder), True, False, False, True, Progress.AUTO)
    keys.capsys.readouterr()
    assert commands.run("keys", common, {"action": "add", "owner": "ci"}) == 0
    answer = json.loads(keys.capsys.readouterr().out)
    assert hashlib.sha256(answer["key"].encode()).hexdigest() in keys.lines()[0]
