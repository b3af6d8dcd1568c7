"""Runs the code of an answer in a child process that can do little: no network, bounded in everything, own folder.

Bounds are the kernel's (rlimits, a network namespace where it may be made) and Python's own (`-I`, an audit hook that
refuses sockets, processes, ctypes, and files outside the folder and the library). An answer of a model that somebody
chose to serve is no attacker with unlimited tries; still, what it writes must not touch this machine.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

TIMEOUT_S = 5.0
_LIMITS = {
    "RLIMIT_CPU": 4, "RLIMIT_AS": 512 * 2**20, "RLIMIT_FSIZE": 2**20, "RLIMIT_NOFILE": 32, "RLIMIT_CORE": 0,
}  # fmt: skip
_OUTPUT = 2000
_GUARD = """
import resource as _r, sys as _s
for _what, _most in {limits!r}.items():
    try:
        _r.setrlimit(getattr(_r, _what), (_most, _most))
    except (OSError, ValueError, AttributeError):  # macOS has no such bound
        pass
def _hook(event, args, _ok={allowed!r}, _real=__import__("os").path.realpath):
    if event in ("open", "os.listdir", "os.scandir"):
        path, mode = args[0], (args[1] if event == "open" else "r")
        if isinstance(path, int):
            return
        path = _real(path.decode() if isinstance(path, bytes) else str(path or "."))
        if not path.startswith(_ok) or (not path.startswith(_ok[0]) and mode and set(mode) & set("wax+")):
            raise PermissionError("not in here: " + path)
    elif event.split(".")[0] in {refused!r} or event in {events!r}:
        raise PermissionError("not in here: " + event)
_s.addaudithook(_hook)
del _r, _s, _hook, _what, _most
"""
_REFUSED = ("socket", "subprocess", "ctypes", "winreg", "urllib", "ftplib", "http", "smtplib", "webbrowser", "shutil")
_EVENTS = (
    "os.system", "os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "os.spawn", "os.kill", "os.killpg", "os.remove",
    "os.rmdir", "os.rename", "os.link", "os.symlink", "os.chmod", "os.chown", "os.truncate", "os.putenv", "os.mkdir",
    "os.chdir", "signal.pthread_kill", "pty.spawn",
)  # fmt: skip


def run_code(code: str, test: str, timeout_s: float = TIMEOUT_S) -> dict[str, Any]:
    """Run code and then its test; {"ok": bool, "said": str}. Never raises for what the code does."""
    try:
        compile(code, "answer", "exec")
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        return {"ok": False, "said": f"does not compile: {error}"}
    with tempfile.TemporaryDirectory(prefix="answer-") as folder:
        home = os.path.realpath(folder)
        script = Path(folder, "answer.py")
        allowed = (home, *{os.path.realpath(one) for one in (sys.base_prefix, sys.prefix, Path(os.__file__).parent)})
        guard = _GUARD.format(limits=_LIMITS, allowed=allowed, refused=set(_REFUSED), events=set(_EVENTS))
        # The word at the end is told after the test alone, so that code which leaves early has not passed.
        done = f"passed-{os.urandom(8).hex()}"
        script.write_text(f"{guard}\n{code}\n\n{test}\nprint({done!r})\n", "utf-8", errors="replace")
        return _child(script, home, done, timeout_s)


def _child(script: Path, folder: str, done: str, timeout_s: float) -> dict[str, Any]:
    """Run the script; its output goes to a file, whose size is bounded too."""
    command = [*_without_network(), sys.executable, "-I", "-S", "-B", str(script)]
    output = Path(folder, "output")
    with output.open("wb") as file:
        child = subprocess.Popen(
            command, cwd=folder, env={"PATH": "/usr/bin:/bin", "TMPDIR": folder, "PYTHONUTF8": "1"},
            stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
        late = False
        try:
            child.wait(timeout_s)
        except subprocess.TimeoutExpired:
            late = True
        finally:
            _end(child)
    said = output.read_text("utf-8", errors="replace").strip()
    if late:
        return {"ok": False, "said": f"not done after {timeout_s:g} s"}
    ok = child.returncode == 0 and said.endswith(done)
    return {"ok": ok, "said": said.replace(done, "").strip()[-_OUTPUT:]}


def _end(child: subprocess.Popen[bytes]) -> None:
    """End whatever the child has started, too."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()


_network: list[list[str]] = []


def _without_network() -> list[str]:
    """Return the words that put a command into a network namespace of its own, none where that may not be made."""
    if not _network:
        words = ["unshare", "--net", "--map-root-user"]
        found = shutil.which("unshare") is not None
        able = found and subprocess.run([*words, "true"], capture_output=True, check=False).returncode == 0
        _network.append(words if able else [])
    return _network[0]
