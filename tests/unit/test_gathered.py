"""The quick way through a log equals the tolerant parser line by line, and the sums equal brute force."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.decide import accesslog
from orchestrator.decide.evidence import reconstruct, summed
from orchestrator.decide.gathered import Gathered, repeated
from orchestrator.decide.overlap import sweep

GOOD = '[GIN] 2026/05/04 - 10:00:05 | 200 |  4.5s |       10.0.0.1 | POST     "/api/chat"'
clocks = st.sampled_from([
    "2026/05/04 - 10:00:05", "2026/05/04 - 10:00:59", "2026/02/31 - 23:59:60", "2026/05/04 - 24:00:05", "0000/00/00 - 0:0:0",
    "2026/05/04  - 10:00:05", "2026/05/04 - 10:00:5", "2026/05/04 - 10:00:05.5", "2026/05/04 - 10:61:05", "²026/05/04 - 10:00:05",
])  # fmt: skip
latencies = st.one_of(
    st.floats(0, 1e9).map(lambda one: f"{one:.6f}s"), st.integers(0, 10**9).map(lambda one: f"{one}ms"),
    st.sampled_from(["999.9µs", "1m2.5s", "2h3m", "0s", "0", "77ns", "1e5s", "nans", "infs", "+5s", "1_0s", ".5s", "5.s",
                     "²s", "٣s", "s", "", "-1s", "5 s", "12.5Âµs", "1.2.3s", "99999999h", "3", "1msms", "12us"]),
)  # fmt: skip
heads = st.sampled_from([
    "", "2026-05-04T08:00:05.250000000Z ", "2026-05-04T10:00:05.5Z ", "2026-05-04T10:00:05Z ", "2026-05-04T10:00:05.Z ",
    "2026-05-04T10:00:05.+5Z ", "2026-05-04T10:61:05.25Z ", "2026-05-04T10:00:65.25Z ", "2026-05-04T10:00:05.1234567890Z ",
    "2026-05-04T12:00:04.500000000+02:00 ", "ollama-1  | 2026-05-04T10:00:03Z ", "Nov 25 06:00:00 host ollama[123]: ",
    "2024-12-11T09:58:58+0100 host ollama[1]: ", "1731920338.123456 host ollama[1]: ", "[pod/a/b] 2026-05-04T10:00:03.5Z ",
    "Wed 2024-12-11 09:58:58 UTC host ollama[1]: ", "\0\0\x002026-05-04T08:00:05.250000000Z ", "x2026-05-04T08:00:05.25Z ",
    "2026-05-04T08:00:05.250000000Z stdout F ", "\x1b[0m",
    '"2026-05-04T10:00:05.25Z","', "ts=2026-05-04T10:00:05.5Z ",
])  # fmt: skip
tails = st.sampled_from([
    '10.0.0.1 | POST     "/api/chat"', '       ::1 | GET "/api/tags?x=1"', "a | b", "", ' | HEAD     "/"', 'x | post "/"',
    '10.0.0.1 |\x1b[97;46m POST    \x1b[0m "/api/chat"', '10.0.0.1 | POST "/a|b|c" | new | columns', "\0", "1 | POST /api/chat",
    '10.0.0.1 | POST "/api/chat" [GIN] 2026/05/04 - 10:00:05 | 200 | 1s | ::1 | GET "/"',
])  # fmt: skip
marks = st.sampled_from(["[GIN] "] * 9 + ["[GIN]", "[GIN]  ", "[GIN-debug] ", "[GIN"])
statuses = st.sampled_from([" 200 "] * 3 + ["499", "\x1b[97;42m 200 \x1b[0m", " 20 ", "x", " ٢٠٠ "])
lines = st.lists(st.tuples(heads, marks, clocks, statuses, latencies, tails).map(
    lambda one: f"{one[0]}{one[1]}{one[2]} |{one[3]}| {one[4]:>13} | {one[5]}"), min_size=1, max_size=30)  # fmt: skip


class Slow(Gathered):
    """The reference: every line through the tolerant parser."""

    __slots__ = ()

    def _quick(self, line: str, at: int) -> bool:
        return False


def state(log: Gathered) -> tuple[object, ...]:
    found = log.requests()
    return (list(found.ends), list(found.latencies), found.kinds, found.twice, log.skipped, log.shifts, log.bare)


@settings(max_examples=400)
@given(lines, st.booleans())
def test_the_quick_way_equals_the_tolerant_one(given_lines: list[str], split: bool) -> None:
    again = given_lines * 2     # what was learnt from the first half is used on the second
    logs = (Gathered(), Slow())
    for log in logs:
        for part in (given_lines, given_lines) if split else (again,):
            log.read(part)
    assert state(logs[0]) == state(logs[1])


@settings(max_examples=200)
@given(st.lists(st.tuples(st.integers(0, 90), st.integers(0, 90)), min_size=1, max_size=25))
def test_hours_equal_brute_force(pairs: list[tuple[int, int]]) -> None:
    """Whole units of 20 minutes over more than a day."""
    unit = 1200
    found = sweep([(end - long) * unit for end, long in pairs], [end * unit for end, _ in pairs])
    wanted: dict[int, int] = {}
    for at in range(-91, 91):
        level = sum(end - long <= at < end for end, long in pairs)
        hour = at * unit // 3600 % 24
        if level:
            wanted[hour] = max(wanted.get(hour, 0), level)
    assert found.by_hour == wanted
    assert found.peak == max(wanted.values(), default=0)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2), st.sampled_from([0.0, 0.5])), max_size=12), st.integers(0, 12))
def test_twice_equals_brute_force(given_requests: list[tuple[int, int, float]], cut: int) -> None:
    """Whole seconds: per file the most often; finer: once."""
    rows = [(end + part, float(latency)) for end, latency, part in given_requests]
    files = [rows[:cut], rows[cut:]]
    found = repeated([one for one, _ in rows], [one for _, one in rows], [0] * len(rows), [0, min(cut, len(rows))])
    wanted = {row: 1 if row[0] % 1 else max(file.count(row) for file in files) for row in rows}
    kept = Counter(row for row, again in zip(rows, found or bytes(len(rows)), strict=True) if not again)
    assert kept == wanted


def test_the_busiest_minute_and_the_slow_ones() -> None:
    text = [GOOD.replace("10:00:05", f"10:{at // 60:02d}:{at % 60:02d}").replace("4.5s", f"{long}s")
            for at, long in ((1, 30), (59, 31), (60, 1), (61, 1), (119, 90))]  # fmt: skip
    random.Random(2).shuffle(text)
    found = reconstruct(text)
    assert (found.requests_per_minute, found.over_30s) == (3.0, 0.4)


def read(*files: Iterable[str]) -> Gathered:
    log = Gathered()
    for file in files:
        log.read(file)
    return log


def test_whole_seconds_of_one_file_are_never_twice() -> None:
    assert summed(read([GOOD, GOOD])).requests == 2
    found = summed(read([GOOD, GOOD], [GOOD, GOOD, GOOD], [GOOD]))
    assert (found.requests, found.skipped) == (3, {"in the log twice": 3})


def test_files_may_come_in_any_order() -> None:
    stamped = [f"2026-05-04T10:{at:02d}:05.{at:03d}Z {GOOD}" for at in range(30)]
    parts = [stamped[:12], stamped[10:20], stamped[18:]]
    wanted = summed(read(stamped))
    for order in ((0, 1, 2), (2, 1, 0), (1, 2, 0)):
        found = summed(read(*(parts[one] for one in order)))
        assert (found.requests, found.concurrency, found.callers) == (30, wanted.concurrency, wanted.callers)
        assert found.skipped == {"in the log twice": 4}


def test_the_end_of_summer_time_is_no_rush() -> None:
    """Half an hour of requests after the clock went back must not lie upon those before it."""
    before = [GOOD.replace("05/04 - 10:00:05", f"10/25 - 02:{at:02d}:05").replace("4.5s", "50s") for at in range(30, 60)]
    after = [GOOD.replace("05/04 - 10:00:05", f"10/25 - 02:{at:02d}:05").replace("4.5s", "50s") for at in range(60)]
    found = reconstruct(before + after)
    assert found.concurrency.peak == 1
    assert found.seconds == pytest.approx(89 * 60 + 50)
    assert any("summer" in note for note in found.notes)


def test_a_clock_that_goes_back_is_told() -> None:
    found = reconstruct([GOOD, GOOD.replace("10:00:05", "09:50:05")])
    assert any("goes back by up to 600 s" in note for note in found.notes)
    assert not any("back" in note for note in reconstruct([GOOD, GOOD.replace("10:00:05", "10:00:04")]).notes)


def test_lines_without_a_zone_follow_those_with_one() -> None:
    """The log begins within a line, so its first line lost docker's time; gin's clock is two hours ahead."""
    rest = [f"2026-05-04T08:00:{at:02d}.5Z {GOOD.replace(':05 ', f':{at:02d} ')}" for at in (5, 30)]
    found = reconstruct([f"0Z {GOOD.replace(':05 ', ':07 ')}", *rest])
    assert (found.concurrency.peak, found.begin[:13]) == (2, "2026-05-04T08")
    assert any("1 lines tell no time" in note for note in found.notes)


def test_every_form_of_the_prefix_is_a_time() -> None:
    for head, seconds in (
        ("2026-05-04T10:00:05.25Z ", 5.25), ("2026-05-04T12:00:05+02:00 ", 5), ("2026-05-04T12:00:05+0200 h o[1]: ", 5),
        ("ollama-1  | 2026-05-04T10:00:05.5Z ", 5.5), ("[pod/a/b] 2026-05-04T10:00:05Z ", 5),
        ("Mon 2026-05-04 10:00:05 UTC h o[1]: ", 5), ("1777888805.125000 h o[1]: ", 5.125),
        ("2026-05-04T10:00:05,25+00:00 h o[1]: ", 5.25),
        ('"2026-05-04T10:00:05.25Z","', 5.25), ('level=info ts=2026-05-04T10:00:05.25Z log="', 5.25),
    ):  # fmt: skip
        assert accesslog.stamp(head) == 1777888800 + seconds, head
    for head in ("", "Nov 25 06:00:00 h o[1]: ", "2026-05-04 10:00:05 ", "Mon 2026-05-04 10:00:05 CEST h o[1]: ", "x"):
        assert accesslog.stamp(head) is None, head


@pytest.mark.parametrize("text", [
    '{"MESSAGE": %s, "__REALTIME_TIMESTAMP": "1777888805250000", "_PID": "1"}', '{"time":"2026-05-04T10:00:05.25Z","log":%s}',
    '{"@timestamp":"2026-05-04T10:00:05.250Z","message":%s}', '{"line":%s,"timestamp":"2026-05-04T10:00:05.250Z"}',
])  # fmt: skip
@pytest.mark.parametrize("as_bytes", [False, True])
def test_json_of_journald_and_of_shippers(text: str, as_bytes: bool) -> None:
    import json

    line = f"\x1b[97m{GOOD}\n"
    found = reconstruct([text % json.dumps(list(line.encode()) if as_bytes else line)])
    assert (found.requests, found.begin) == (1, "2026-05-04T10:00:00+00:00")
    assert not found.skipped


def test_gins_own_words_are_no_requests() -> None:
    found = reconstruct(["[GIN-debug] POST   /api/pull --> github.com/ollama/ollama/server.PullHandler-fm (5 handlers)", "[GIN"])
    assert (found.requests, found.skipped) == (0, {"cut or unknown form": 1})


def test_a_scanner_does_not_fill_the_memory() -> None:
    """More callers and paths than are kept apart: the sums stay right."""
    def lines() -> Iterator[str]:
        for number in range(60_000):
            yield f'[GIN] 2026/05/04 - 10:00:05 | 404 |  1ms | 10.0.0.1 | GET      "/{number}/{"x" * 900}"'
        for number in range(3):
            yield GOOD.replace("10.0.0.1", f"10.9.9.{number}")

    log = read(lines())
    found = summed(log)
    assert (found.requests, found.other, found.lines) == (3, 60_000, 60_003)
    assert len(log._kinds) < 51_000
    assert found.callers == {"others": 3}
    assert max(map(len, found.paths)) <= 200


@pytest.mark.parametrize("line", [
    '"2026-05-04T10:00:05.25Z","[GIN] 2026/05/04 - 10:00:05 | 200 | 4.5s | 10.0.0.1 | POST     ""/api/chat"""',
    'level=info log="[GIN] 2026/05/04 - 10:00:05 | 200 | 4.5s | 10.0.0.1 | POST     \\"/api/chat\\""',
    '{"textPayload": "[GIN] 2026/05/04 - 10:00:05 | 200 | 4.5s | 10.0.0.1 | POST     \\"/api/chat\\"", "timestamp": "2026-05-04T10:00:05.25Z"}',
])  # fmt: skip
def test_a_log_that_was_exported(line: str) -> None:
    assert reconstruct([line]).paths == {"/api/chat": 1}


@given(st.text(st.sampled_from('a"\\\\n{}:,\x1b [GIN]é'), max_size=30), st.booleans())
def test_dockers_json_is_read_as_json(text: str, end: bool) -> None:
    import json

    told = {"log": text + "\n" * end, "stream": "stdout", "attrs": {"time": "x"}, "time": "2026-05-04T10:00:05.25Z"}
    for ensure_ascii in (True, False):
        line = json.dumps(told, separators=(",", ":"), ensure_ascii=ensure_ascii)
        assert accesslog.unpacked(line).removesuffix("\n") == f"{told['time']} {text}".removesuffix("\n")
