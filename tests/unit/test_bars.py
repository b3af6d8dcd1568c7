from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from orchestrator.decide.bars import bar
from orchestrator.decide.budget import Proof
from orchestrator.decide.catalog import load
from orchestrator.decide.hostmemory import Wish, host_budget
from orchestrator.decide.vram import GIB, Ask, GpuBudget, share_of
from orchestrator.facts import Host

ASK = Ask("llama", load().named("llama3.1")[0].numbers)


def drawn(text: str) -> str:
    return text.split("|")[1]


def test_a_bar_shows_every_part_in_order_with_its_size() -> None:
    budget = GpuBudget("0", 40 * GIB, others=GIB, ollama=6 * GIB, shares=(share_of(ASK, 40 * GIB, 4 * GIB, 0.6),))
    line = drawn(bar(budget))
    assert len(line) == 60
    assert "".join(dict.fromkeys(line)) == "xOvkam."
    assert line.count("O") == 9
    assert abs(line.count("v") - 60 * budget.shares[0].weights / budget.total) <= 1
    assert "O Ollama 6.0 GiB" in bar(budget)
    assert "k KV cache 4.0 GiB" in bar(budget)


def test_too_much_is_drawn_past_the_end() -> None:
    text = bar(GpuBudget("1", 10 * GIB, ollama=15 * GIB))
    assert text.split("|")[2].startswith("!")
    assert "5.0 GiB too much" in text
    assert "." not in drawn(text)


@given(
    total=st.integers(0, 200 * GIB), others=st.integers(0, 99 * GIB), ollama=st.integers(0, 99 * GIB),
    kv=st.integers(0, 50 * GIB), engines=st.integers(0, 5), width=st.integers(-5, 200),
)  # fmt: skip
def test_any_budget_is_drawn_at_its_width(
    total: int, others: int, ollama: int, kv: int, engines: int, width: int
) -> None:
    budget = GpuBudget("0", total, others, ollama, tuple(share_of(ASK, total, kv, 0.3) for _ in range(engines)))
    line = drawn(bar(budget, width))
    parts = bool(others) + bool(ollama) + engines * (3 + bool(kv))
    assert max(12, width) <= len(line) <= max(12, width, parts)
    assert ("O" in line) is bool(ollama)


def test_ram_and_shared_memory_are_weighed() -> None:
    two = replace(ASK, tensor_parallel=2)
    assert host_budget(Host(ram=64 * GIB, ram_free=50 * GIB, shm=8 * GIB), (Wish(ASK),)).problems == ()
    assert "of RAM" in host_budget(Host(ram=8 * GIB), (Wish(two),)).problems[0]
    assert "shared memory" in host_budget(Host(ram=64 * GIB, shm=GIB), (Wish(two),), host_ipc=True).problems[0]
    assert not host_budget(Host(ram=64 * GIB, shm=GIB), (Wish(two),)).problems, "a container has a size of its own"
    assert "could not be seen" in host_budget(Host(), (Wish(ASK),)).warnings[0]
    assert Wish(ASK, sleeps=True).ram - Wish(ASK).ram == ASK.weights()
    assert "swap" in host_budget(Host(ram=64 * GIB, ram_free=2 * GIB), (Wish(ASK),)).warnings[0]


def test_a_gpu_on_which_nothing_is_counted_has_no_bar_that_calls_it_free() -> None:
    text = Proof((GpuBudget("3", 80 * GIB),)).report()
    assert "what it is asked for" in text
    assert "free" not in text
