"""GPUs in words, as --gpu takes them: `24GiB,cc8.9`, `2x RTX 4090`, `A100-80GB:mig-3g.40gb`, `L40S, used 4GiB`."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from orchestrator.decide.gpucards import Card, known, profile_mib, squeeze
from orchestrator.errors import UsageError
from orchestrator.facts import Gpu

FORMS = (
    '"24GiB,cc8.9", "2x24GiB,cc8.9", "24GiB,cc8.9,used 2GiB" (or free 22GiB, mig, display), or a name: "RTX 4090", '
    '"2x L40S", "A100-80GB:mig-3g.40gb"'
)
ASSUMED = 8.0       # compute capability where none is said: bfloat16, and nothing newer
_MIB = {"t": 2**20, "g": 1024, "m": 1}
# A lone T is no unit: RTX 4060 Ti.
_SIZE = re.compile(
    r"(?:\b(used|free)[\s=:]*)?(?<![\w.])(\d{1,9}(?:\.\d{1,6})?)[\s_]*(?:(g)(?:i?b|ig)?|(m)(?:i?b)?|(t)i?b)(?![\w.])"
    r"(?:\s*(used|free)\b(?![\s=:]*\d))?", re.IGNORECASE,
)  # fmt: skip
_PROFILE = re.compile(
    r"(?<![\w.])(?:mig[\s:_-]*)?((?:[1-7]c\.)?[1-7]g\.\d{1,3}gb)(?:\+[\w.]+)?(?!\w)", re.IGNORECASE,
)  # fmt: skip
_CAPABILITY = re.compile(
    r"(?:compute[\s_]*cap(?:ability)?|compute|cc|sm)[\s_:=]*(\d{1,2})\.?(\d)(?![\d.])", re.IGNORECASE,
)  # fmt: skip
_BEFORE = re.compile(r"\s*\(?(\d{1,6})\s*[xX\u00d7*]\)?\s*(?=\S)")
_AFTER = re.compile(r"(?<=[\s)\w])(?:\s+|\()[xX\u00d7*]\s*(\d{1,6})\)?\s*$")
_OTHERS = re.compile(
    r"(?:amd|radeon|instinct|apple|intel|arc)\b|mi\d{2,3}x?\b|rx\s?\d{4}|m[1-9](?:\s?(?:pro|max|ultra))?$",
    re.IGNORECASE,
)  # fmt: skip
_MOST = 64
_NEAR = 0.08        # a size this near to one of a card's is that card's


@dataclass(slots=True)
class _Said:
    """What the words of one GPU said; sizes in bytes."""

    cards: list[Card] = field(default_factory=list)
    sizes: dict[str, list[int]] = field(default_factory=dict)      # total, used, free
    inside: int = 0             # a size that is part of the name: A100 80GB
    capability: list[float] = field(default_factory=list)
    profile: str = ""
    marks: set[str] = field(default_factory=set)
    bad: list[str] = field(default_factory=list)


def parse_all(texts: Iterable[str]) -> tuple[Gpu, ...]:
    """Return the GPUs of several flags, numbered through; raises one UsageError that names every problem of all."""
    found: list[Gpu] = []
    problems: list[str] = []
    for text in texts:
        gpus, bad = _flag(text, len(found))
        found += gpus
        problems += [f"--gpu {text!r}: {one}" for one in bad]
    if len(found) > _MOST:
        problems.append(f"--gpu names {len(found)} GPUs; {_MOST} at most")
    if problems:
        raise UsageError("; ".join(problems), hint=f"such as: {FORMS}")
    return tuple(found)


def parse_gpus(text: str, index: int = 0) -> tuple[Gpu, ...]:
    """Return the GPUs that one flag names, numbered from `index`; raises UsageError with the accepted forms."""
    found, bad = _flag(text, index)
    if bad:
        raise UsageError(f"--gpu {text!r}: {'; '.join(bad)}", hint=f"such as: {FORMS}")
    return tuple(found)


def parse_gpu(text: str, index: int = 0) -> Gpu:
    """Return the one GPU that the flag names; raises UsageError with the accepted forms."""
    found = parse_gpus(text, index)
    if len(found) != 1:
        raise UsageError(f"--gpu {text!r} names {len(found)} GPUs", hint="one is meant here")
    return found[0]


def _flag(text: str, index: int) -> tuple[list[Gpu], list[str]]:
    """Return what a flag names and what is wrong with it. `;` and ` + ` part GPUs, and so does a second name."""
    found: list[Gpu] = []
    problems: list[str] = []
    for one in _apart(text):
        count, rest = _count(one)
        if not 1 <= count <= _MOST:
            problems.append(f"the count should be 1 to {_MOST}")
            continue
        said = _read(rest)
        for _ in range(count):
            gpu = _gpu(said, index + len(found))
            if gpu:
                found.append(gpu)
        problems += said.bad
    return found, list(dict.fromkeys(problems))


def _apart(text: str) -> list[str]:
    whole: list[str] = []
    for part in re.split(r"\s*;\s*|\s+\+\s+|\s+and\s+", text):
        pieces = part.split(",")
        now = [pieces[0]]
        for piece in pieces[1:]:
            again = _named(_count(piece)[1]) or bool(_BEFORE.match(piece))
            if again and any(_named(_count(one)[1]) for one in now):
                whole.append(",".join(now))
                now = []
            now.append(piece)
        whole.append(",".join(now))
    return whole


def _named(piece: str) -> bool:
    return squeeze(_rest(piece)) in known()


def _rest(piece: str) -> str:
    for pattern in (_PROFILE, _SIZE, _CAPABILITY):
        piece = pattern.sub(" ", piece)
    return piece


def _count(text: str) -> tuple[int, str]:
    before = _BEFORE.match(text)
    if before:
        return int(before[1]), text[before.end():]
    after = _AFTER.search(text)
    return (int(after[1]), text[: after.start()]) if after else (1, text)


def _read(text: str) -> _Said:
    said = _Said()
    if not text.strip(" ,:"):
        said.bad.append("a part is empty" if text else "it is empty")
        return said
    for part in re.split(r",|:(?=\s*mig)|(?<=[a-zA-Z]):(?=\s*\d)", text, flags=re.IGNORECASE):
        _part(part.strip(), said)
    return said


def _part(part: str, said: _Said) -> None:
    """Note what one part says, and what of it is not understood."""
    if not part or part.startswith("-"):
        said.bad.append(f"{part!r} is not understood" if part else "a part is empty")
        return
    profile = _PROFILE.search(part)
    if profile:
        said.bad += ["two MIG profiles are given"] if said.profile else []
        said.profile = profile[1].lower()
        part = _PROFILE.sub(" ", part, count=1)
    capable = _CAPABILITY.search(part)
    if capable:
        said.capability.append(int(capable[1]) + int(capable[2]) / 10)
        part = _CAPABILITY.sub(" ", part, count=1)
    sizes = list(_SIZE.finditer(part))
    rest = _SIZE.sub(" ", part)
    words = [word for word in re.split(r"[\s/()_]+", rest) if word.strip("-.:")]
    marks = {word.lower() for word in words} & {"mig", "display"}
    said.marks |= marks
    name = " ".join(word for word in words if word.lower() not in marks)
    for one in sizes:
        key = (one[1] or one[6] or "total").lower()
        size = int(float(one[2]) * _MIB[(one[3] or one[4] or one[5]).lower()] * 2**20)
        if key == "total" and name and not said.inside:
            said.inside = size
        else:
            said.sizes.setdefault(key, []).append(size)
    if name:
        _name(name, part.strip(), said)


def _name(name: str, whole: str, said: _Said) -> None:
    card = known().get(squeeze(name))
    if card and said.cards:
        said.bad.append(f"{whole!r} is a second name")
    elif card:
        said.cards.append(card)
    elif _OTHERS.match(name):
        said.bad.append(f"{whole!r} is no NVIDIA GPU, and vLLM is set up here for NVIDIA alone")
    else:
        near = difflib.get_close_matches(squeeze(name), known(), 1, 0.8)
        said.bad.append(f"{whole!r} is not understood" + (f"; {known()[near[0]].name}?" if near else ""))


def _gpu(said: _Said, index: int) -> Gpu | None:
    """Return the GPU, or None with the reasons added to `said.bad`."""
    card = said.cards[0] if said.cards else None
    total = _total(said, card)
    capability = said.capability[0] if said.capability else card.capability if card else None
    name = card.labelled(total // 2**20) if card and total else card.name if card else "stated GPU"
    if capability is None and total and not said.bad:
        capability, name = ASSUMED, f"stated GPU (compute capability {ASSUMED} assumed)"
    if not total and not any(re.search("which|understood|empty|no NVIDIA", one) for one in said.bad):
        said.bad.append("the memory is missing")
    if len(said.capability) > 1 or any(len(sizes) > 1 for sizes in said.sizes.values()):
        said.bad.append("something is said twice")
    if card and said.profile and not card.mig:
        said.bad.append(f"{card.name} cannot be divided by MIG")
    if total and said.profile:
        total, name = _slice(said, total, name, divided=card is not None)
    used, free = (said.sizes.get(key, [0])[0] for key in ("used", "free"))
    if "used" in said.sizes and "free" in said.sizes:
        said.bad.append("used and free are both given")
    left = free if "free" in said.sizes else (total or 0) - used
    if total and not 0 <= left <= total:
        said.bad.append("more is used or free than there is")
    if said.bad or not total or capability is None:
        return None
    return Gpu(
        index=str(index), uuid=f"stated-{index}", name=name, total=total, free=left, compute_capability=capability,
        mig="mig" in said.marks or bool(said.profile), display="display" in said.marks, profile=said.profile,
        unified=bool(card and card.unified),
    )  # fmt: skip


def _total(said: _Said, card: Card | None) -> int:
    """Return the bytes of the whole GPU, 0 where they are not told. A size in a part of its own is taken as it is."""
    stated = said.sizes.get("total", [0])[0]
    if stated or card is None:
        return stated or said.inside or (profile_mib(said.profile) * 2**20 if said.profile else 0)
    sizes = {size: abs(size * 2**20 - said.inside) for size in card.sizes}
    if said.inside:
        size = min(sizes, key=lambda one: sizes[one])
        return size * 2**20 if sizes[size] <= _NEAR * said.inside else said.inside
    if len(card.sizes) > 1 and not card.usual:
        said.bad.append(f"which {card.name}: {' or '.join(card.labelled(size) for size in card.sizes)}?")
        return 0
    return (card.usual or card.sizes[0]) * 2**20


def _slice(said: _Said, total: int, name: str, *, divided: bool) -> tuple[int, str]:
    """Return the memory and the name of a MIG instance of a GPU with `total` bytes."""
    size = profile_mib(said.profile) * 2**20
    if divided and size > total:
        said.bad.append(f"a profile {said.profile} is larger than {name}")
    # Where no card is named, a size that is stated is the instance's own.
    own = said.sizes.get("total", [0])[0] if not divided else 0
    return own or size, f"{name} MIG {said.profile}"
