"""What images are made of: the doors to docker and pip, root file systems, build contexts, wheels."""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

TOOLS = Path(__file__).resolve().parent
REPO = TOOLS.parent
IMAGES = TOOLS / "images"
REQUIREMENTS = REPO / "orchestrator" / "adapter" / "requirements.txt"  # the stand-ins need the same
CACHE = Path(
    os.environ.get("MIGRATE_CACHE") or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "migrate",
)
ENGINE = str(TOOLS / "engine")
OFFICIAL_PYTHON = "python:3.11-slim-bookworm"
LABEL = "migrate.inputs"
PYTHON = "migrate/python:dev"


def adopt_engine() -> None:
    """Take over the environment of the private engine, where there is one."""
    shell = f'eval "$({ENGINE} env)"; env -0'
    out = subprocess.run(["bash", "-c", shell], check=True, capture_output=True, text=True).stdout
    os.environ.update(dict(line.split("=", 1) for line in out.split("\0") if "=" in line))


def say(text: str) -> None:
    print(f"images: {text}", file=sys.stderr, flush=True)


def docker(*args: str, stdin: int | None = None) -> str:
    """Run docker and return its output; CalledProcessError carries what it said."""
    done = subprocess.run(["docker", *args], stdin=stdin, check=True, text=True, capture_output=True)
    return done.stdout.strip()


def import_root(suite: str, packages: str, image: str, *options: str, changes: list[str]) -> None:
    """A root file system of Debian packages, streamed into an image."""
    maker = subprocess.Popen([ENGINE, "rootfs", suite, packages, *options], stdout=subprocess.PIPE)
    import_stream(maker, image, changes)


def import_stream(maker: subprocess.Popen[bytes], image: str, changes: list[str]) -> None:
    assert maker.stdout is not None
    # Tagged only when the stream was whole: half a root file system imports without complaint.
    made = docker("import", *(f"--change={line}" for line in changes), "-", stdin=maker.stdout.fileno())
    if maker.wait() != 0:
        docker("image", "rm", made)
        raise SystemExit(f"{image}: the root file system could not be made (see above)")
    docker("tag", made, image)


def label(digest: str) -> str:
    return f"LABEL {LABEL}={digest}"


def shown(image: str, template: str) -> str:
    """One property of an image, empty when there is no such image."""
    command = ["docker", "image", "inspect", "--format", template, image]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


def registry_answers() -> bool:
    """Whether official images can be pulled; asked once, in a few seconds."""
    decided = os.environ.get("MIGRATE_IMAGES")
    if decided is None:
        try:
            probe = subprocess.run(
                ["docker", "manifest", "inspect", OFFICIAL_PYTHON], timeout=8, capture_output=True, check=False
            )
            decided = "registry" if probe.returncode == 0 else "local"
        except subprocess.TimeoutExpired:
            decided = "local"
        os.environ["MIGRATE_IMAGES"] = decided
        say("a registry answers: official images" if decided == "registry" else "no registry: Debian packages")
    return decided == "registry"


def retag(official: str, image: str, digest: str) -> None:
    """The official image under our name, with our label."""
    with scratch() as context:
        (context / "Dockerfile").write_text(f"FROM {official}\n{label(digest)}\n")
        docker("build", "--quiet", "--tag", image, str(context))


def build_context(
    recipe: str | None,
    image: str,
    digest: str,
    parts: dict[str, str],
    *,
    wheels: str | None = None,
    target: str | None = None,
    base: str = PYTHON,
) -> None:
    """Assemble a build context from the recipe's folder, parts of the repository and wheels; build it."""
    with scratch() as context:
        if recipe:
            shutil.copytree(IMAGES / recipe, context, dirs_exist_ok=True)
        for source, name in parts.items():
            copy(REPO / source, context / name)
        if wheels:
            shutil.copytree(wheelhouse(), context / wheels)
        options = ["--target", target] if target else []
        docker(
            "build", "--quiet", "--label", f"{LABEL}={digest}", "--build-arg", f"PYTHON_IMAGE={base}",
            *options, "--tag", image, str(context),
        )  # fmt: skip


def copy(source: Path, to: Path) -> None:
    to.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, to, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    else:
        shutil.copy(source, to)


def pip_for_images() -> list[str]:
    """Options for pip on the host that choose wheels for Python 3.11 in the images."""
    # Debian 12 has glibc 2.36; pip wants every older tag named.
    tags = ["manylinux2014", *(f"manylinux_2_{minor}" for minor in range(5, 37))]
    platforms = [f"--platform={tag}_{platform.machine()}" for tag in tags]
    abis = ["--abi=cp311", "--abi=abi3", "--abi=none"]
    return ["--only-binary=:all:", "--python-version=3.11", "--implementation=cp", *abis, *platforms]


def wheelhouse() -> Path:
    """The wheels of the sidecar and the stand-ins, downloaded once with the machine's own pip settings."""
    key = hashlib.sha256(REQUIREMENTS.read_bytes() + platform.machine().encode()).hexdigest()[:16]
    house = CACHE / "wheels" / key
    if not house.exists():
        with scratch() as fresh:
            pip = [sys.executable, "-m", "pip", "download", "-qq", "--dest", str(fresh)]
            subprocess.run([*pip, *pip_for_images(), "--requirement", str(REQUIREMENTS)], check=True)
            house.parent.mkdir(parents=True, exist_ok=True)
            shutil.move(fresh, house)
            fresh.mkdir()
    return house


@contextlib.contextmanager
def scratch() -> Iterator[Path]:
    """A temporary directory in the cache: big enough, and on the same file system."""
    (CACHE / "tmp").mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CACHE / "tmp") as path:
        Path(path).chmod(0o755)
        yield Path(path)
