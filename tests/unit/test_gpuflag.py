"""--gpu in all its forms, and what a wrong one is told."""

from __future__ import annotations

import pytest

from orchestrator.decide.gpuflag import known, parse_gpu, parse_gpus
from orchestrator.errors import UsageError

GIB = 2**30


@pytest.mark.parametrize(("text", "total", "free", "capability"), [
    ("24GiB,cc8.9", 24, 24, 8.9), ("24 gib, CC 8.9, used 2GiB", 24, 22, 8.9), ("24GiB,cc8.9,free 20GiB", 24, 20, 8.9),
    ("24576MiB,cc8.9,2GiB used", 24, 22, 8.9), ("RTX 4090", 24, 24, 8.9), ("NVIDIA GeForce RTX 4090", 24, 24, 8.9),
    ("h100,used 1GiB", 80, 79, 9.0), ("A100-40GB", 40, 40, 8.0), ("80GiB,cc12.0", 80, 80, 12.0),
])
def test_one_gpu(text, total, free, capability):
    gpu = parse_gpu(text, 3)
    assert (gpu.index, gpu.total, gpu.free, gpu.compute_capability) == ("3", total * GIB, free * GIB, capability)


def test_counts_and_marks():
    assert [one.index for one in parse_gpus("2x24GiB,cc8.9", 1)] == ["1", "2"]
    assert [one.name for one in parse_gpus("4 x L4")] == ["L4"] * 4
    assert parse_gpu("10GiB,cc8.0,mig").mig


@pytest.mark.parametrize("text", [
    "", ",", "24GiB", "cc8.9", "24,cc8.9", "0x24GiB,cc8.9", "999x24GiB,cc8.9", "24GiB,cc8.9,used 30GiB", "0GiB,cc8.9",
    "24GiB,cc8.9,banana", "24GiB,cc8.9,used 1GiB,free 2GiB", "-24GiB,cc8.9", "24GiB,48GiB,cc8.9", "RTX 9999",
])
def test_a_wrong_one_is_told_the_forms(text):
    with pytest.raises(UsageError) as caught:
        parse_gpus(text)
    assert "24GiB,cc8.9" in caught.value.hint


def test_the_data_are_sane():
    assert all(8192 <= mib <= 2**19 and 7 <= capability <= 13 for _, mib, capability in known().values())
