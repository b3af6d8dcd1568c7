"""Evidence from the log: the overlap equals brute force, real lines are read, mangled ones are counted and no more."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import os
import random
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.decide.accesslog import duration
from orchestrator.decide.evidence import reconstruct, sampled, stated
from orchestrator.decide.overlap import sweep
from orchestrator.errors import UsageError
from orchestrator.facts import Spread
from orchestrator.observe import accesslog

LOGS = Path(os.environ.get("MIGRATE_LOGS", Path(__file__).parent / "data" / "accesslog"))
CASES = sorted(LOGS.glob("*.yaml"))
GOOD = '[GIN] 2026/05/04 - 10:00:05 | 200 |  4.5s |       10.0.0.1 | POST     "/api/chat"'
moments = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 30)), min_size=1, max_size=40)


@given(moments)
def test_the_overlap_equals_brute_force(pairs: list[tuple[int, int]]) -> None:
    """Whole seconds, so that a look at the middle of each second sees everything."""
    found = sweep([end - long for end, long in pairs], [end for end, _ in pairs])
    levels = [sum(end - long <= second < end for end, long in pairs) for second in range(-31, 61)]
    assert found.peak == max(levels)
    assert found.at == {level: float(levels.count(level)) for level in set(levels) - {0}}
    for level in range(5):
        assert found.above(level) == sum(one > level for one in levels)
    assert found.waiting(2) == sum(max(0, one - 2) for one in levels)
    busy = sorted(one for one in levels if one)
    assert found.percentile(0.95) == (busy[-(-len(busy) * 95 // 100) - 1] if busy else None)


@settings(max_examples=50)
@given(moments)
def test_the_log_says_what_the_overlap_says(pairs: list[tuple[int, int]]) -> None:
    lines = [GOOD.replace("10:00:05", f"10:{end // 60:02d}:{end % 60:02d}").replace("4.5s", f"{long}s")
             for end, long in pairs]  # fmt: skip
    random.Random(1).shuffle(lines)
    found = reconstruct(lines)
    peak = sweep([end - long for end, long in pairs], [end for end, _ in pairs]).peak
    assert found.concurrency.peak == (peak or None)
    assert found.requests == len(pairs)


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_case(path: Path) -> None:
    case = yaml.safe_load(path.read_text(encoding="utf-8"))
    found = reconstruct(case["log"].splitlines(), path.stem)
    for key, wanted in case["expect"].items():
        actual = getattr(found, key)
        pairs = [(getattr(actual, name), one) for name, one in wanted.items()] if isinstance(actual, Spread) else \
            [(actual, wanted)]  # fmt: skip
        for ours, theirs in pairs:
            wanted_one = pytest.approx(theirs) if isinstance(theirs, float) else theirs
            assert (list(ours) if isinstance(ours, tuple) else ours) == wanted_one, key


def test_there_are_cases() -> None:
    assert CASES


def test_ten_thousand_mangled_lines_are_no_crash() -> None:
    good = [line for path in CASES for line in yaml.safe_load(path.read_text(encoding="utf-8"))["log"].splitlines()]
    dice = random.Random(7)
    mangled = []
    for _ in range(10_000):
        line = list(dice.choice([*good, GOOD]))
        for _ in range(dice.randint(1, 6)):
            at = dice.randrange(len(line) + 1)
            line[at : at + dice.randint(0, 4)] = [chr(dice.choice([0, 9, 27, 34, 47, 58, 124, 48, 57, 181, 0x1F600]))]
        mangled.append("".join(line[: dice.randint(0, len(line))] if dice.random() < 0.3 else line))
    found = reconstruct(mangled)
    assert found.lines == 10_000
    assert 0 < found.requests < 10_000
    assert found.skipped


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("36.088775013s", 36.088775013), ("453.235µs", 453.235e-6), ("838.8804ms", 0.8388804), ("1m30s", 90), ("0", 0),
     ("1h2m3s", 3723), ("0s", 0), ("12.5Âµs", 12.5e-6), ("77ns", 77e-9), ("3", None), ("s", None), ("1m x", None),
     ("1s2", None), ("", None)],
)  # fmt: skip
def test_durations_of_go(text: str, seconds: float | None) -> None:
    assert duration(text) == (None if seconds is None else pytest.approx(seconds))


def test_few_requests_have_no_tail() -> None:
    found = reconstruct([GOOD] * 19).latency
    assert (found.n, found.p50, found.p95, found.p99) == (19, 4.5, None, None)
    assert reconstruct([GOOD] * 20).latency.p95 == 4.5


def test_bytes_and_lines_without_an_end_are_lines_too() -> None:
    assert reconstruct([GOOD.encode() + b"\r\n", b"\xff\xfe[GIN]\xff"]).requests == 1


def test_a_statement_is_no_measurement() -> None:
    found = stated(7)
    assert (found.source, found.concurrency.peak, found.requests) == ("stated", 7, 0)


def test_samples_name_a_model_only_where_one_is_loaded() -> None:
    found = sampled([(0.0, 0, ("a",)), (10.0, 2, ("a",)), (20.0, 5, ("a", "b")), (30.0, 1, ("a",))])
    assert found.source == "watch"
    assert found.concurrency.peak == 5
    assert found.models == {"a": 2}
    assert found.seconds == 30
    assert sampled([]).concurrency.peak is None


def test_a_folder_of_rotated_files_is_one_log(tmp_path: Path) -> None:
    with gzip.open(tmp_path / "ollama.log.1.gz", "wt") as old:
        old.write(GOOD + "\n")
    (tmp_path / "ollama.log").write_text(GOOD.replace("10:00:05", "10:00:06") + "\n" + GOOD[:40])
    found = accesslog.look((str(tmp_path),))
    assert (found.requests, found.concurrency.peak) == (2, 2)
    assert sum(found.skipped.values()) == 1


def test_every_path_that_is_not_there_is_told(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError) as told:
        accesslog.look((str(tmp_path / "a.log"), str(tmp_path / "empty")))
    assert "a.log" in told.value.evidence
    assert "empty" in told.value.evidence


def many(count: int) -> str:
    """Lines that do not pack well."""
    dice = random.Random(count)
    return "".join(GOOD.replace("4.5s", f"{dice.random() * 9:.9f}s") + "\n" for _ in range(count))


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress])
def test_a_file_that_ends_early_counts_as_far_as_it_goes(tmp_path: Path, pack: Callable[[bytes], bytes]) -> None:
    packed = pack(many(20_000).encode())
    (tmp_path / "x.gz").write_bytes(packed[: len(packed) * 3 // 4])
    (tmp_path / "y.log").write_text(GOOD)
    found = accesslog.look((str(tmp_path),))
    assert 8_000 < found.requests < 18_000
    assert any("x.gz" in note and "ends early" in note and f"{found.lines - 1} lines" in note for note in found.notes)


def test_a_damaged_file_counts_up_to_the_damage(tmp_path: Path) -> None:
    packed = bytearray(gzip.compress(many(20_000).encode()))
    packed[len(packed) // 2 : len(packed) // 2 + 200] = bytes(200)
    (tmp_path / "x.gz").write_bytes(packed)
    found = accesslog.look((str(tmp_path / "x.gz"),))
    assert 5_000 < found.requests < 20_000
    assert any("x.gz" in note and "damaged" in note for note in found.notes)


@pytest.mark.parametrize("data", [gzip.compress(GOOD.encode(), mtime=0)[:10], b"\x1f\x8bno", b"\x28\xb5\x2f\xfd" + bytes(99)], ids=["head", "no", "zstd"])
def test_a_file_of_which_nothing_can_be_read_is_told(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "x.gz").write_bytes(data)
    with pytest.raises(UsageError) as told:
        accesslog.look((str(tmp_path / "x.gz"),))
    assert "x.gz" in told.value.evidence


def test_packed_files_that_were_joined_are_one(tmp_path: Path) -> None:
    one = gzip.compress((GOOD + "\n").encode())
    (tmp_path / "x.gz").write_bytes(one + one + bytes(512))
    found = accesslog.look((str(tmp_path / "x.gz"),))
    assert (found.requests, [note for note in found.notes if "x.gz" in note]) == (2, [])


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-8-sig"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_the_encodings_of_windows(tmp_path: Path, encoding: str, end: str) -> None:
    line = f"2026-05-04T10:00:05.25Z {GOOD}".replace("4.5s", "453.2µs")
    (tmp_path / "x").write_bytes((line + end + GOOD + end).encode(encoding))
    found = accesslog.look((str(tmp_path / "x"),))
    assert (found.requests, found.skipped, found.callers) == (2, {}, {"10.0.0.1": 2})
    assert any("1 lines tell no time" in note for note in found.notes)


def test_a_log_with_a_hole_of_zeros_and_an_endless_line(tmp_path: Path) -> None:
    """What copytruncate and a crash leave behind."""
    stamped = f"2026-05-04T10:00:05.25Z {GOOD}\n".encode()
    (tmp_path / "x").write_bytes(bytes(300_000) + stamped + b"x" * 1_000_000 + b"\n" + stamped.replace(b".25Z", b".35Z"))
    found = accesslog.look((str(tmp_path / "x"),))
    assert (found.requests, found.skipped) == (2, {})
    assert not any("no time" in note for note in found.notes)


def test_standard_input_may_be_packed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(gzip.compress(GOOD.encode()))))
    assert accesslog.look(("-",)).requests == 1


def test_a_file_that_is_named_twice_is_one(tmp_path: Path) -> None:
    (tmp_path / "x").write_text(GOOD)
    assert accesslog.look((str(tmp_path / "x"), str(tmp_path))).requests == 1


def test_a_binary_file_holds_no_request(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(bytes(range(256)) * 2000)
    assert accesslog.look((str(tmp_path / "x"),)).source == "none"


def test_rotated_files_that_overlap_count_once(tmp_path: Path) -> None:
    line = "2026-05-04T10:00:05.123456789Z " + GOOD + "\n"
    (tmp_path / "ollama.log.1").write_text(line)
    (tmp_path / "ollama.log").write_text(line + line.replace(".123456789Z", ".223456789Z"))
    found = accesslog.look((str(tmp_path),))
    assert (found.requests, found.skipped) == (2, {"in the log twice": 1})


@pytest.mark.parametrize("latency", ["9" * 400 + "s", "99999999h"])
def test_an_endless_latency_is_a_damaged_line(latency: str) -> None:
    found = reconstruct([GOOD.replace("4.5s", latency), GOOD])
    assert (found.requests, found.skipped) == (1, {"latency not plausible": 1})


def test_the_log_of_a_container_is_read_with_its_times() -> None:
    class Engine:
        def log_lines(self, name: str, *, tail: int) -> list[str]:
            assert name == "ollama"
            assert tail > 1_000_000
            return [f"2026-05-04T08:00:05.{part}Z {GOOD}" for part in ("100000000", "900000000")]

    found = accesslog.container(Engine(), "ollama")
    assert (found.requests, found.origin, found.end) == (2, "docker logs ollama", "2026-05-04T08:00:05+00:00")
    assert any("+2 h" in note for note in found.notes)


def test_the_file_of_dockers_json_driver_is_a_log_too() -> None:
    lines = [json.dumps({"log": f"\x1b[97m{GOOD}\n", "stream": "stdout", "time": "2026-05-04T08:00:05.1Z"}),
             '{"log": 3}', '{"log', "{}"]  # fmt: skip
    found = reconstruct(lines)
    assert (found.requests, found.paths, found.end) == (1, {"/api/chat": 1}, "2026-05-04T08:00:05+00:00")


def test_a_caller_without_an_address_is_unknown() -> None:
    assert reconstruct([GOOD.replace("10.0.0.1", "")]).callers == {"unknown": 1}


def test_summer_time_is_told() -> None:
    def at(hour: int) -> list[str]:
        return [f"2026-05-04T{hour:02d}:00:05.{part}Z {GOOD}" for part in ("1", "2")]

    assert any("+1, +2 h" in note for note in reconstruct(at(9) + at(8)).notes)
    assert not any("summer" in note for note in reconstruct(at(8)).notes)


def test_what_can_be_read_only_once_is_read_whole(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_text, args=(GOOD + "\n",), daemon=True)
    writer.start()
    assert accesslog.look((str(pipe),)).requests == 1
    writer.join(10)


def test_a_log_without_a_request_says_so(tmp_path: Path) -> None:
    file = tmp_path / "other.log"
    file.write_text("starting\nready\n")
    found = accesslog.look((str(file),))
    assert f"{file}: 2 lines read, none of them a request to a model" in found.notes
