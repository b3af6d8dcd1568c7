"""How long prompts and answers are: drawn from quantiles or pairs, with a seed; and prompts of about that length.

No tokenizer is asked: short common words are about one token each in every vocabulary. What the prompts really were
is in the answers' usage, and is shown beside what was wished.
"""

from __future__ import annotations

import random
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from orchestrator.errors import UsageError
from orchestrator.facts import Traffic
from orchestrator.spec_load import Load

_WORDS = (
    "the of and to in that it was for on are as with his they at be this have from or one had by word but not what "
    "all were we when your can said there use an each which she do how their if will up other about out many then "
    "them these so some her would make like him into time has look two more go see no way could my than first water "
    "been call who oil its now find long down day did get come made may part"
)
# The request itself around the words: chat template and the unique mark, in tokens.
_AROUND = 30

_AXES = ("prompt", "output")
Points = tuple[tuple[float, int], ...]


@dataclass(frozen=True)
class Lengths:
    """Tokens of prompts and answers: quantile points (share 0..1, tokens) on both axes, or `pairs` drawn as they are.

    An empty axis leaves its length to the plan: the plan's own prompts, its max_tokens.
    """

    prompt: Points = ()
    output: Points = ()
    pairs: tuple[tuple[int, int], ...] = ()

    def draw(self, rng: random.Random) -> tuple[int | None, int | None]:
        """(prompt tokens, max_tokens) of one request; None where nothing is said."""
        if self.pairs:
            return rng.choice(self.pairs)
        return _at(self.prompt, rng.random()), _at(self.output, rng.random())

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Lengths:
        prompt, output = (tuple((float(share), int(n)) for share, n in data.get(key) or ()) for key in _AXES)
        return cls(prompt, output, tuple((int(one), int(two)) for one, two in data.get("pairs") or ()))


def quantile_points(named: Mapping[str, float | None]) -> Points:
    """Points from {"p50": 300, "p95": 2000, "max": 4000}; what is None is left out. ValueError if they fall."""
    shares = {"min": 0.0, "peak": 1.0, "max": 1.0}
    points = sorted(
        (shares[name] if name in shares else float(name[1:]) / 100, max(1, round(tokens)))
        for name, tokens in named.items()
        if tokens is not None
    )
    if any(later[1] < earlier[1] for earlier, later in pairwise(points)):
        raise ValueError("a higher quantile should not be shorter than a lower one")
    return tuple(points)


def words(rng: random.Random, tokens: int) -> str:
    """Text of about so many tokens."""
    return " ".join(rng.choices(_WORDS.split(), k=max(1, tokens - _AROUND)))


def _at(points: Sequence[tuple[float, int]], share: float) -> int | None:
    """The length at a share, straight between the points; flat beyond the last, and down to 1 before the first."""
    if not points:
        return None
    shares = [point[0] for point in points]
    after = bisect_right(shares, share)
    if after == len(points):
        return points[-1][1]
    low_share, low = points[after - 1] if after else (0.0, 1)
    high_share, high = points[after]
    part = (share - low_share) / (high_share - low_share) if high_share > low_share else 1.0
    return max(1, round(low + part * (high - low)))


def lengths_of(asked: Load, traffic: Traffic | None) -> Lengths | None:
    """The lengths that the stack file asks for; `evidence` takes those of the log. None: the plan's own prompts.

    UsageError where the log told none.
    """
    if asked.lengths is None:
        return None
    if asked.lengths != "evidence":
        said = asked.lengths
        axes = [quantile_points(one.model_dump()) if one else () for one in (said.prompt, said.output)]
        return Lengths(axes[0], axes[1], said.pairs)
    spreads = (traffic.prompt_tokens, traffic.output_tokens) if traffic else ()
    prompt, output = (quantile_points({"p50": one.p50, "p95": one.p95, "p99": one.p99, "peak": one.peak})
                      for one in spreads) if spreads else ((), ())  # fmt: skip
    if not prompt and not output:
        raise UsageError("load/lengths asks for the evidence, but no log told how long prompts and answers are",
                         hint="run migrate plan --log with Ollama's log (OLLAMA_DEBUG=1 tells tokens), or say "
                              "load/lengths/prompt and /output in migrate.yaml")  # fmt: skip
    return Lengths(prompt, output)
