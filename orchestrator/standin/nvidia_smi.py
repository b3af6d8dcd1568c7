"""A stand-in for `nvidia-smi` that answers from the ledger.

Usage: nvidia-smi [-L] [-i N[,N]] [--query-gpu=FIELD,… --format=csv[,noheader][,nounits]]
"""

from __future__ import annotations

import sys

from orchestrator.standin.ledger import Gpu, Ledger

MIB = 1024**2
DRIVER = "580.95.05"
CUDA = "13.0"
NO_DRIVER = (
    "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver. "
    "Make sure that the latest NVIDIA driver is installed and running.\n"
)


def field(gpu: Gpu, name: str, *, units: bool) -> str:
    """Return one queried value; raises KeyError for a field that the stand-in does not know."""
    sizes = {"memory.total": gpu.total, "memory.used": gpu.used, "memory.free": gpu.free}
    if name in sizes:
        return f"{sizes[name] // MIB}" + (" MiB" if units else "")
    if name == "utilization.gpu":
        return "0 %" if units else "0"
    return {
        "index": gpu.index,
        "uuid": gpu.uuid,
        "gpu_uuid": gpu.uuid,
        "name": gpu.name,
        "gpu_name": gpu.name,
        "compute_cap": "8.9",
        "driver_version": DRIVER,
        "count": "1",
    }[name]


def query(gpus: list[Gpu], fields: list[str], formats: list[str]) -> str:
    units = "nounits" not in formats
    lines = []
    if "noheader" not in formats:
        sized = (f"{f} [MiB]" if units and f.startswith("memory.") else f for f in fields)
        lines.append(", ".join(sized))
    lines += [", ".join(field(gpu, f, units=units) for f in fields) for gpu in gpus]
    return "\n".join(lines) + "\n"


def table(gpus: list[Gpu]) -> str:
    head = f"| NVIDIA-SMI {DRIVER}    Driver Version: {DRIVER}    CUDA Version: {CUDA} |"
    rows = [f"| {g.index}  {g.name:<28} {g.used // MIB}MiB / {g.total // MIB}MiB |" for g in gpus]
    return "\n".join([head, *rows]) + "\n"


def run(argv: list[str], gpus: list[Gpu]) -> tuple[int, str]:
    """Return exit code and output for a command line."""
    chosen = next((argv[i + 1] for i, a in enumerate(argv[:-1]) if a in {"-i", "--id"}), None)
    for argument in argv:
        if argument.startswith(("-i=", "--id=")):
            chosen = argument.partition("=")[2]
    if chosen is not None:
        gpus = [g for g in gpus if g.index in chosen.split(",") or g.uuid in chosen.split(",")]
        if not gpus:
            return 6, "No devices were found\n"
    asked = next((a.partition("=")[2] for a in argv if a.startswith("--query-gpu=")), "")
    formats = next((a.partition("=")[2] for a in argv if a.startswith("--format=")), "csv").split(",")
    if "-L" in argv:
        return 0, "".join(f"GPU {g.index}: {g.name} (UUID: {g.uuid})\n" for g in gpus)
    if not asked:
        return 0, table(gpus)
    fields = [f.strip() for f in asked.split(",")]
    try:
        return 0, query(gpus, fields, [f.strip() for f in formats])
    except KeyError as error:
        return 2, f'Field "{error.args[0]}" is not a valid field to query.\n\n'


def main() -> None:
    ledger = Ledger.from_env("nvidia-smi")
    gpus = ledger.mine() if ledger else []
    code, output = run(sys.argv[1:], gpus) if gpus else (9, NO_DRIVER)
    sys.stdout.write(output)
    raise SystemExit(code)


if __name__ == "__main__":
    main()
