"""--gpu in all its forms, and what a wrong one is told."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.decide.gpucards import known
from orchestrator.decide.gpuflag import ASSUMED, parse_all, parse_gpu, parse_gpus
from orchestrator.errors import UsageError

GIB = 2**30


@pytest.mark.parametrize(("text", "total", "free", "capability"), [
    ("24GiB,cc8.9", 24, 24, 8.9), ("24 gib, CC 8.9, used 2GiB", 24, 22, 8.9), ("24GiB,cc8.9,free 20GiB", 24, 20, 8.9),
    ("24576MiB,cc8.9,2GiB used", 24, 22, 8.9), ("24GiB cc8.9 used 2GiB", 24, 22, 8.9), ("RTX 3090", 24, 24, 8.6),
    ("0.5TB, sm_120", 512, 512, 12.0), ("A100-40GB", 40, 40, 8.0), ("80GiB,cc12.0", 80, 80, 12.0),
    ("NVIDIA A100-SXM4-80GB", 80, 80, 8.0), ("NVIDIA A100 80GB PCIe", 80, 80, 8.0), ("a100 80gb", 80, 80, 8.0),
    ("A100,80GiB", 80, 80, 8.0), ("Tesla V100-SXM2-16GB", 16, 16, 7.0), ("Tesla T4", 15, 15, 7.5),
    ("L40S,48GiB", 48, 48, 8.9), ("L40S, 40 GB, used 4GB", 40, 36, 8.9), ("RTX 3090:22GiB", 22, 22, 8.6),
])
def test_one_gpu(text, total, free, capability):
    gpu = parse_gpu(text, 3)
    assert (gpu.index, gpu.total, gpu.free, gpu.compute_capability) == ("3", total * GIB, free * GIB, capability)


@pytest.mark.parametrize(("text", "name", "mib"), [
    ("RTX 4090", "RTX 4090", 24564), ("NVIDIA GeForce RTX 4090", "RTX 4090", 24564), ("rtx4090", "RTX 4090", 24564),
    ("4090", "RTX 4090", 24564), ("RTX 4060 Ti 16GB", "RTX 4060 Ti-16GB", 16380), ("H100", "H100-80GB", 81559),
    ("NVIDIA H100 80GB HBM3", "H100-80GB", 81559), ("H100 NVL", "H100 NVL", 95830), ("H200", "H200", 143771),
    ("NVIDIA RTX 6000 Ada Generation", "RTX 6000 Ada", 49140), ("A6000", "RTX A6000", 49140), ("A10G", "A10", 23028),
    ("RTX PRO 6000 Blackwell Max-Q Workstation Edition", "RTX PRO 6000 Blackwell", 97887),
    ("L40S 48GB", "L40S", 46068),           # as it is written on the box: the card's own size
])
def test_a_name_is_the_card_with_what_nvidia_smi_shows(text, name, mib):
    gpu = parse_gpu(text)
    assert (gpu.name, gpu.total >> 20) == (name, mib)


@pytest.mark.parametrize(("text", "total_mib", "profile", "capability"), [
    ("A100-80GB:mig-3g.40gb", 40192, "3g.40gb", 8.0), ("A100 80GB MIG 1g.10gb", 9728, "1g.10gb", 8.0),
    ("NVIDIA A100-SXM4-40GB:1g.5gb", 4864, "1g.5gb", 8.0), ("H200, mig 1g.18gb", 16384, "1g.18gb", 9.0),
    ("H100,1c.3g.40gb", 40192, "1c.3g.40gb", 9.0), ("mig-2g.20gb,cc9.0", 19968, "2g.20gb", 9.0),
    ("39GiB,cc9.0,mig-3g.40gb", 39 * 1024, "3g.40gb", 9.0),
])
def test_mig_instances(text, total_mib, profile, capability):
    gpu = parse_gpu(text)
    assert (gpu.total >> 20, gpu.profile, gpu.compute_capability, gpu.mig) == (total_mib, profile, capability, True)
    assert gpu.name.endswith(f"MIG {profile}")


def test_a_size_alone_says_what_is_assumed():
    gpu = parse_gpu("24GB")
    assert (gpu.total, gpu.compute_capability) == (24 * GIB, ASSUMED)
    assert "8.0 assumed" in gpu.name


def test_counts_and_marks():
    assert [one.index for one in parse_gpus("2x24GiB,cc8.9", 1)] == ["1", "2"]
    assert parse_gpu("10GiB,cc8.0,mig").mig
    assert parse_gpu("RTX 4090,display").display
    assert parse_gpu("RTX 4090 display").display
    assert parse_gpu("GB10").unified


@pytest.mark.parametrize(("text", "names"), [
    ("4 x L4", ["L4"] * 4), ("2x RTX 4090", ["RTX 4090"] * 2), ("RTX 4090 x2", ["RTX 4090"] * 2),
    ("RTX 4090 (x2)", ["RTX 4090"] * 2), ("2\u00d7L4", ["L4"] * 2), ("2*L4, used 1GiB", ["L4"] * 2),
    ("RTX 4090; L4", ["RTX 4090", "L4"]), ("RTX 4090 + 2x L4", ["RTX 4090", "L4", "L4"]),
    ("RTX 4090, RTX 3090, used 1GiB", ["RTX 4090", "RTX 3090"]), ("RTX 3090 and L4", ["RTX 3090", "L4"]),
    ("7x A100-80GB:mig-1g.10gb", ["A100-80GB MIG 1g.10gb"] * 7),
])
def test_several_in_one_flag(text, names):
    found = parse_gpus(text)
    assert [one.name for one in found] == names
    assert [one.index for one in found] == [str(at) for at in range(len(names))]
    assert len({one.uuid for one in found}) == len(names)


def test_several_flags_are_numbered_through_and_told_all_at_once():
    assert [(one.index, one.name) for one in parse_all(["L4", "2x T4"])] == [("0", "L4"), ("1", "T4"), ("2", "T4")]
    with pytest.raises(UsageError) as caught:
        parse_all(["RTX 9999", "L4", "A100", "24GiB,cc8.9,banana"])
    assert all(word in caught.value.message for word in ("RTX 9999", "A100-40GB or A100-80GB", "banana"))
    assert "L4'" not in caught.value.message


@pytest.mark.parametrize("text", [
    "", " ", ",", "cc8.9", "24,cc8.9", "0x24GiB,cc8.9", "999x24GiB,cc8.9", "24GiB,cc8.9,used 30GiB", "0GiB,cc8.9",
    "24GiB,cc8.9,banana", "24GiB,cc8.9,used 1GiB,free 2GiB", "-24GiB,cc8.9", "24GiB,48GiB,cc8.9", "RTX 9999", "A100",
    "2x", "24GiB,cc8.9,cc8.0", "24GiB,,cc8.9", "large",
])
def test_a_wrong_one_is_told_the_forms(text):
    with pytest.raises(UsageError) as caught:
        parse_gpus(text)
    assert "24GiB,cc8.9" in caught.value.hint


@pytest.mark.parametrize(("text", "said"), [
    ("RTX 409O", "RTX 4090?"), ("A100", "A100-40GB or A100-80GB"), ("RTX 4090:mig-1g.10gb", "cannot be divided"),
    ("A100-40GB:mig-7g.80gb", "larger than A100-40GB"), ("MI300X", "no NVIDIA GPU"), ("M3 Max", "no NVIDIA GPU"),
    ("cc8.9,banana", "'banana' is not understood"), ("24GiB,cc8.9,banana,apple pie,used 30GiB", "more is used"),
])
def test_what_is_wrong_is_said(text, said):
    with pytest.raises(UsageError) as caught:
        parse_gpus(text)
    assert said in caught.value.message


@given(st.one_of(st.text(), st.lists(st.sampled_from([
    "24GiB", "cc8.9", "used 2GiB", "A100", "-80GB", ":mig-", "3g.40gb", "2x", " x2", ",", ";", " ", "RTX 4090", "display",
])).map("".join)))
def test_no_text_breaks_it(text):
    try:
        found = parse_all([text])
    except UsageError:
        return
    assert all(0 <= one.free <= one.total and one.total > 0 for one in found)


def test_the_data_are_sane():
    for card in known().values():
        assert all(6000 <= mib <= 2**19 for mib in card.sizes)
        assert 7 <= card.capability <= 13
        assert not card.usual or card.usual in card.sizes
        assert card.mig <= (card.capability in (8.0, 9.0, 10.0, 12.0))
