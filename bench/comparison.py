"""How often is the comparison of old and new wrong? Simulated, with the rule that the load gate uses.

python bench/comparison.py [--tests 20000] [--seed 1]

A row is a truth (how much slower the new side is), a run-to-run spread, and the ratio that is allowed. Every test adds
pairs until it is decided, at most eight. `requests`: the figure of a run is a p95 of so many lognormal requests, whose
own sampling comes on top of the spread; 0: the figure itself is given.
"""

from __future__ import annotations

import argparse
import math
import random
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from orchestrator.checks.compare import LOOKS, Comparison, compare
from orchestrator.stats import percentile

SHAPE = 0.5     # sigma of ln(latency) within a run
ROWS = [
    (slower, spread, bound, requests)
    for spread in (0.03, 0.10, 0.30)
    for slower, bound in ((1.0, 1.0), (1.0, 1.1), (1.0, 1.5), (1.1, 1.1), (1.2, 1.1), (0.3, 1.5))
    for requests in ((0, 200) if spread == 0.10 and slower in (1.0, 1.2) and bound == 1.1 else (0,))
]


def figure(rng: random.Random, level: float, spread: float, requests: int) -> float:
    run = level * math.exp(rng.gauss(0, spread))
    if not requests:
        return run
    return run * percentile([math.exp(rng.gauss(0, SHAPE)) for _ in range(requests)], 95)


def one_test(rng: random.Random, slower: float, spread: float, bound: float, requests: int) -> Comparison:
    old: list[float] = []
    new: list[float] = []
    for pairs in LOOKS:
        while len(old) < pairs:
            old.append(figure(rng, 1.0, spread, requests))
            new.append(figure(rng, slower, spread, requests))
        found = compare(old, new, bound=bound)
        if found.decided:
            break
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tests", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    print(f"{args.tests} tests a row (a tenth where requests are drawn), seed {args.seed}")
    print("| truth | spread | allowed | requests | worse | not worse | undecided | interval holds | pairs |")
    print("|---|---|---|---|---|---|---|---|---|")
    for slower, spread, bound, requests in ROWS:
        rng, count = random.Random(args.seed), args.tests // 10 if requests else args.tests
        tests = [one_test(rng, slower, spread, bound, requests) for _ in range(count)]
        shares = [sum(one.outcome == what for one in tests) / count for what in ("worse", "not worse", "inconclusive")]
        holds = sum(one.low is not None and one.high is not None and one.low <= slower <= one.high for one in tests)
        pairs = sum(one.pairs for one in tests) / count
        found = " | ".join(f"{share:.1%}" for share in shares)
        row = f"| {slower:g} | {spread:.0%} | {bound:g} | {requests or '-'} | {found}"
        print(f"{row} | {holds / count:.1%} | {pairs:.1f} |")


if __name__ == "__main__":
    main()
