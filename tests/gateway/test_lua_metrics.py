"""Buckets and text formats of the gateway's metrics, through LuaJIT, read by Prometheus' own parsers."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
from gateway_lua import LUA, module
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_open
from prometheus_client.parser import text_string_to_metric_families as read_plain

HISTOGRAM, EXPOSITION = module("histogram"), module("exposition")
BOUNDS = list(HISTOGRAM[b"BOUNDS"].values())


def expected(seconds: float) -> int:
    return next((at for at, bound in enumerate(BOUNDS, 1) if seconds <= bound), len(BOUNDS) + 1)


def test_buckets_reach_from_5_ms_to_10_min_in_even_steps() -> None:
    assert (BOUNDS[0], BOUNDS[-1], HISTOGRAM[b"SIZE"]) == (0.005, 600, len(BOUNDS) + 1)
    assert all(1.5 < high / low < 1.9 for low, high in itertools.pairwise(BOUNDS))


def test_every_millisecond_falls_into_its_bucket() -> None:
    check = LUA.eval(b"""function(bucket, bounds)
      local at = 1
      for ms = 0, 700000 do
        while bounds[at] and ms / 1000 > bounds[at] do at = at + 1 end
        if bucket(ms / 1000) ~= at then return ms end
      end
    end""")
    assert check(HISTOGRAM[b"bucket"], HISTOGRAM[b"BOUNDS"]) is None


@given(st.one_of(st.floats(allow_nan=False), st.sampled_from(BOUNDS), st.sampled_from(BOUNDS).map(lambda b: math.nextafter(b, 0)),
                 st.sampled_from(BOUNDS).map(lambda b: math.nextafter(b, math.inf))))  # fmt: skip
def test_any_number_falls_into_its_bucket(seconds: float) -> None:
    assert HISTOGRAM[b"bucket"](seconds) == expected(seconds)


def test_no_number_is_still_counted() -> None:
    assert 1 <= HISTOGRAM[b"bucket"](math.nan) <= HISTOGRAM[b"SIZE"]


@given(st.lists(st.integers(-5, 700_000).map(lambda ms: ms / 1000)))
def test_a_histogram_counts_and_sums(values: list[float]) -> None:
    made = HISTOGRAM[b"new"]()
    for value in values:
        HISTOGRAM[b"observe"](made, value)
    counts = [made[at] for at in range(1, len(BOUNDS) + 2)]
    assert counts == [sum(expected(value) == at for value in values) for at in range(1, len(BOUNDS) + 2)]
    assert made[b"sum"] == pytest.approx(sum(max(0, value) for value in values))


def lua(value: Any) -> Any:
    if isinstance(value, dict):
        return LUA.table_from({key.encode() if isinstance(key, str) else key: lua(item) for key, item in value.items()})
    if isinstance(value, list):
        return LUA.table_from([lua(item) for item in value])
    return value.encode() if isinstance(value, str) else value


def family(name: str, kind: str, labels: list[str], samples: list[Any]) -> dict[str, Any]:
    return {"name": name, "kind": kind, "help": "Some words.", "labels": labels, "samples": samples}


def text(families: list[Any], *, is_open: bool) -> str:
    return EXPOSITION[b"text"](lua(families), is_open).decode()


BOTH = pytest.mark.parametrize("is_open", [False, True], ids=["text", "openmetrics"])


def read(families: list[Any], is_open: bool) -> dict[str, Any]:
    parser = read_open if is_open else read_plain
    return {sample.name + str(sorted(sample.labels.items())): sample.value
            for one in parser(text(families, is_open=is_open)) for sample in one.samples}  # fmt: skip


@BOTH
def test_counters_gauges_and_histograms_are_read_as_they_were_meant(is_open: bool) -> None:
    cells = dict.fromkeys(range(1, len(BOUNDS) + 2), 0) | {1: 2, 7: 3, len(BOUNDS) + 1: 1, "sum": 700.25}
    found = read([family("a_total", "counter", ["x"], [[["one"], 5], [["two"], 2**40]]), family("b", "gauge", [], [[[], 0.5]]),
                  family("c_seconds", "histogram", ["x"], [[["y"], cells]])], is_open)  # fmt: skip
    assert found["a_total[('x', 'one')]"] == 5
    assert found["a_total[('x', 'two')]"] == 2**40
    assert found["b[]"] == 0.5
    assert found["c_seconds_count[('x', 'y')]"] == 6
    assert found["c_seconds_sum[('x', 'y')]"] == 700.25
    buckets = [found[f"c_seconds_bucket[('le', '{bound}'), ('x', 'y')]"] for bound in map(str, map(float, BOUNDS))]
    assert buckets == [2] * 6 + [5] * (len(BOUNDS) - 6)
    assert found["c_seconds_bucket[('le', '+Inf'), ('x', 'y')]"] == 6


@BOTH
@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=12))
def test_any_label_comes_back_as_it_was(is_open: bool, value: str) -> None:
    parser = read_open if is_open else read_plain
    found = list(parser(text([family("a", "gauge", ["x", "y"], [[[value, "z"], 1]])], is_open=is_open)))
    assert [sample.labels for sample in found[0].samples] == [{"x": value, "y": "z"}]


@BOTH
def test_a_family_without_samples_is_valid(is_open: bool) -> None:
    assert read([family("a_total", "counter", ["x"], []), family("b", "histogram", ["x"], [])], is_open) == {}


@given(st.floats(0, 1e12))
def test_numbers_keep_their_microseconds(value: float) -> None:
    found = read([family("a", "gauge", [], [[[], value]])], True)
    assert found["a[]"] == pytest.approx(value, rel=1e-14, abs=1e-6)
