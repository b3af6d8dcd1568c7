"""What the report says of GPUs: how they are marked, who holds them, and what is not listed."""

from __future__ import annotations

from orchestrator.decide import gpulines
from orchestrator.facts import Facts, Gpu, Holder, Host, OllamaFacts

GIB = 2**30
NONE = OllamaFacts("", "")


def test_marks_and_holders() -> None:
    held = (Holder(812, "ollama", 5 * GIB), Holder(7, "", None), Holder(9, "Xorg", 3 * 2**20))
    gpus = (Gpu("0", "GPU-a", "RTX 4090", 24 * GIB, 19 * GIB, 8.9, display=True, holders=held),
            Gpu("1:0", "MIG-b", "H100 MIG 3g.40gb", 39 * GIB, 39 * GIB, 9.0, mig=True))  # fmt: skip
    assert gpulines.seen(Facts(NONE, gpus, driver="580.95.05", cuda="13.0", gpu_notes=("GPU 2 is left out",))) == [
        "GPU 0: RTX 4090, 24.0 GiB, 19.0 free, compute capability 8.9",
        "  a screen hangs on it",
        "  held by ollama (pid 812) 5.0 GiB, process (pid 7)",
        "GPU 1:0: H100 MIG 3g.40gb, 39.0 GiB, 39.0 free, compute capability 9.0",
        "  MIG instance MIG-b",
        "NVIDIA driver 580.95.05, CUDA 13.0 at most",
        "GPU 2 is left out",
    ]


def test_many_holders_are_counted() -> None:
    held = tuple(Holder(pid, f"p{pid}", GIB) for pid in range(7))
    text = "\n".join(gpulines.seen(Facts(NONE, (Gpu("0", "a", "x", GIB, 0, 8.0, holders=held),))))
    assert "p3 (pid 3) 1.0 GiB and 3 more" in text
    assert "p4" not in text


def test_no_gpu_says_why_once_and_the_limit_of_a_container_is_named() -> None:
    facts = Facts(NONE, gpu_problem="GPU 0 is lost", gpu_notes=("GPU 0 is lost",), host=Host(ram_limit=8 * GIB))
    assert gpulines.seen(facts) == [
        "GPU: none (GPU 0 is lost)", "RAM: 8.0 GiB, the limit of the container that this runs in",
    ]
