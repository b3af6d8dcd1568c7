"""Builds the stand-in NVML:  python tests/gpu/nvml/build.py FOLDER  makes FOLDER/libnvidia-ml.so.1.

Any C compiler will do. Where there is none, the package tcc is unpacked for the moment.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
ENGINE = HERE.parents[2] / "tools" / "engine"
LIBRARY = "libnvidia-ml.so.1"


def build(folder: Path) -> Path:
    """Return the library's path; raises CalledProcessError with the compiler's words, or those of tools/engine."""
    made = folder / LIBRARY
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        compiler = next((found for name in ("cc", "gcc", "clang", "tcc") if (found := shutil.which(name))), None)
        compiler = compiler or _tcc(Path(scratch))
        # Without start-up files: the symbols of the C library are in the process that loads it.
        words = [compiler, "-shared", "-fPIC", "-nostdlib", "-w", "-o", str(made), str(HERE / "nvml.c")]
        subprocess.run(words, check=True, capture_output=True, text=True)
    return made


def _tcc(folder: Path) -> str:
    subprocess.run([ENGINE, "package", "tcc", folder / "tcc"], check=True, capture_output=True, text=True)
    return str(folder / "tcc" / "usr" / "bin" / "tcc")


if __name__ == "__main__":
    try:
        sys.stdout.write(f"{build(Path(sys.argv[1]))}\n")
    except subprocess.CalledProcessError as error:
        raise SystemExit(f"the stand-in NVML cannot be built: {error.stderr.strip()}") from None
