"""Build the images that tests and demo run; what is there and made from the same inputs is kept.

    python tools/build_images.py [--force] [NAME | GROUP ...]

Where a registry answers, the official images are the base; elsewhere Debian's packages are.
MIGRATE_IMAGES=local or registry decides without asking.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import os
import shutil
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass

import vllm_root
from image_parts import (
    CACHE,
    ENGINE,
    LABEL,
    PYTHON,
    REPO,
    REQUIREMENTS,
    TOOLS,
    adopt_engine,
    build_context,
    docker,
    import_root,
    import_stream,
    label,
    pip_for_images,
    registry_answers,
    retag,
    say,
    scratch,
    shown,
)

MODEL = CACHE / "models" / "tiny-llama"

OPENRESTY = "openresty/openresty:1.29.2.5-0-alpine"
OFFICIAL_VLLM = "public.ecr.aws/q9t5s3a7/vllm-cpu-release-repo:v0.32.0"

PYTHON_PACKAGES = "python3,python3-pip,ca-certificates,iptables,iproute2"
GATEWAY_PACKAGES = "nginx,libnginx-mod-http-lua,lua-cjson,lua-resty-core,wget"
VLLM_PACKAGES = "python3,python3-dev,ca-certificates,g++,libnuma1"
SHARED = ("orchestrator/__init__.py", "orchestrator/errors.py")


@dataclass(frozen=True)
class Image:
    """One image: how it is made, and the files and texts that decide whether it is still the right one."""

    name: str
    build: Callable[[str], None]  # gets the hash of the inputs, to be kept in the image's label
    files: tuple[str, ...] = ()
    texts: tuple[str, ...] = ()
    base: str | None = None
    group: str = "demo"


# --- the recipes ---------------------------------------------------------------------------------------


def build_python(digest: str) -> None:
    if registry_answers():
        build_context("python", PYTHON, digest, {})
        return
    import_root(
        "bookworm", PYTHON_PACKAGES, PYTHON,
        "--customize-hook=ln -s python3 $1/usr/bin/python",
        "--customize-hook=rm -f $1/usr/lib/python3*/EXTERNALLY-MANAGED",
        changes=['CMD ["python3"]', "ENV PYTHONUNBUFFERED=1", label(digest)],
    )  # fmt: skip


def build_gateway(digest: str) -> None:
    image = "migrate/gateway:dev"
    if registry_answers():
        retag(OPENRESTY, image, digest)
        return
    import_root(
        "sid", GATEWAY_PACKAGES, image, "--customize-hook=rm -rf $1/var/www $1/etc/nginx/modules-enabled/*", changes=[]
    )
    build_context("gateway", image, digest, {}, base=image)


def build_sidecar(digest: str) -> None:
    parts = {"orchestrator/__init__.py": "__init__.py", "orchestrator/errors.py": "errors.py"}
    parts |= {"orchestrator/adapter": "adapter", "orchestrator/adapter/Dockerfile": "Dockerfile"}
    build_context(None, "migrate/sidecar:dev", digest, parts, wheels="deps/wheels")


def build_standin(kind: str) -> Callable[[str], None]:
    def build(digest: str) -> None:
        parts = {path: path for path in (*SHARED, "orchestrator/standin")}
        build_context("standin", f"migrate/standin-{kind}:dev", digest, parts, wheels="wheels", target=kind)

    return build


def build_vllm(digest: str) -> None:
    image = "migrate/vllm-cpu:dev"
    if registry_answers():
        retag(OFFICIAL_VLLM, image, digest)
        return
    with scratch() as root:
        maker = subprocess.Popen([ENGINE, "rootfs", "bookworm", VLLM_PACKAGES], stdout=subprocess.PIPE)
        subprocess.run(["tar", "-x", "-C", str(root)], stdin=maker.stdout, check=True)
        if maker.wait() != 0:
            raise SystemExit(f"{image}: the root file system could not be made (see above)")
        vllm_root.make_root(root, pip_for_images())
        packer = subprocess.Popen(["tar", "-c", "-C", str(root), "."], stdout=subprocess.PIPE)
        changes = ["ENV PATH=/opt/vllm/bin:/usr/local/bin:/usr/bin:/bin", 'ENTRYPOINT ["vllm", "serve"]']
        import_stream(packer, image, [*changes, label(digest)])


def build_model(digest: str) -> None:
    """The tiny model, made inside the vLLM image, which has transformers; complete or not there at all."""
    with scratch() as out:
        docker(
            "run", "--rm", "--network=none", f"--user={os.getuid()}:{os.getgid()}", "--env=HOME=/tmp",
            f"--volume={TOOLS}/tiny_model.py:/tiny_model.py:ro", f"--volume={out}:/out",
            "--entrypoint=python3", "migrate/vllm-cpu:dev", "/tiny_model.py", "/out/model",
        )  # fmt: skip
        (out / "model" / "made-from").write_text(digest)
        shutil.rmtree(MODEL, ignore_errors=True)
        MODEL.parent.mkdir(parents=True, exist_ok=True)
        (out / "model").rename(MODEL)


def ensure_model(*, force: bool) -> None:
    digest = hashlib.sha256((TOOLS / "tiny_model.py").read_bytes()).hexdigest()
    made_from = MODEL / "made-from"
    if force or not made_from.exists() or made_from.read_text() != digest:
        say("making the tiny model")
        build_model(digest)


def images() -> list[Image]:
    requirements = str(REQUIREMENTS.relative_to(REPO))
    standin = ("tools/images/standin", *SHARED, "orchestrator/standin", requirements)
    sidecar = (*SHARED, "orchestrator/adapter")
    return [
        Image(PYTHON, build_python, ("tools/images/python",), (PYTHON_PACKAGES,)),
        Image("migrate/gateway:dev", build_gateway, ("tools/images/gateway",), (GATEWAY_PACKAGES, OPENRESTY)),
        Image("migrate/sidecar:dev", build_sidecar, sidecar, base=PYTHON),
        Image("migrate/standin-ollama:dev", build_standin("ollama"), standin, base=PYTHON),
        Image("migrate/standin-vllm:dev", build_standin("vllm"), standin, base=PYTHON),
        Image(
            "migrate/vllm-cpu:dev", build_vllm, ("tools/vllm_root.py",), (VLLM_PACKAGES, OFFICIAL_VLLM), group="vllm"
        ),
    ]


# --- building ------------------------------------------------------------------------------------------


def digest_of(image: Image, known: dict[str, str]) -> str:
    state = hashlib.sha256()
    for text in (image.name, *image.texts, known.get(image.base or "", "")):
        state.update(text.encode() + b"\0")
    for entry in image.files:
        path = REPO / entry
        found = sorted(path.rglob("*")) if path.is_dir() else [path]
        for file in (f for f in found if f.is_file() and "__pycache__" not in f.parts):
            state.update(str(file.relative_to(REPO)).encode() + b"\0" + file.read_bytes() + b"\0")
    return state.hexdigest()[:20]


def ensure(image: Image, digest: str, *, force: bool) -> None:
    if not force and shown(image.name, f'{{{{index .Config.Labels "{LABEL}"}}}}') == digest:
        return
    start = time.monotonic()
    old = shown(image.name, "{{.Id}}")
    say(f"building {image.name}")
    image.build(digest)
    if old and old != shown(image.name, "{{.Id}}"):  # refused while a container uses it, which is right
        subprocess.run(["docker", "image", "rm", old], capture_output=True, check=False)
    say(f"built {image.name}, {time.monotonic() - start:.0f} s")


def main() -> None:
    parser = argparse.ArgumentParser(description="Build the images that tests and demo run.")
    parser.add_argument("names", nargs="*", default=["demo"], help="images, or the groups demo and vllm")
    parser.add_argument("--force", action="store_true", help="build even what is there")
    asked = parser.parse_args()
    adopt_engine()
    known: dict[str, str] = {}
    everything = images()
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "images.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        wanted = {i.name for i in everything if {i.group, i.name, i.name.split("/")[1][:-4]} & set(asked.names)}
        wanted |= {i.base for i in everything if i.name in wanted and i.base}
        for image in everything:
            known[image.name] = digest_of(image, known)
            if image.name in wanted:
                ensure(image, known[image.name], force=asked.force)
        if "vllm" in asked.names:
            ensure_model(force=asked.force)


if __name__ == "__main__":
    try:
        main()
    except subprocess.CalledProcessError as failed:
        said = failed.stderr or "(see above)"
        raise SystemExit(f"images: {' '.join(map(str, failed.cmd[:4]))} … failed\n{said}") from None
