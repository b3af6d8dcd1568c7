"""What a check says of something a person wrote: where, what is wrong, and what to write instead."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

Severity = Literal["error", "warning", "advice"]
_ORDER = {"error": 0, "warning": 1, "advice": 2}

_SECRET_NAME = re.compile(
    r"(^|_)(API_?KEYS?|KEY|TOKEN|SECRET|PASSWORD|PASSWD|PASSPHRASE|CREDENTIALS?)(_ID)?$", re.IGNORECASE
)
_SECRET_VALUE = re.compile(
    r"\b(hf_[A-Za-z0-9]{16,}|sk-[A-Za-z0-9_-]{16,}|nvapi-[\w-]{16,}|gh[pousr]_[A-Za-z0-9]{20,}|github_pat_\w{20,}"
    r"|AKIA[0-9A-Z]{16})\b|://[^/\s:@]+:[^/\s:@$]+@"
)


@dataclass(frozen=True, slots=True)
class Finding:
    """`where` names the flag, variable or service; `line` counts from 1 and is 0 where there is no file."""

    severity: Severity
    where: str
    what: str
    fix: str
    evidence: str = ""
    line: int = 0
    code: str = ""      # a stable word for the kind of finding

    def __str__(self) -> str:
        place = f"line {self.line}: {self.where}" if self.line else self.where
        proof = f" ({self.evidence})" if self.evidence else ""
        return f"{self.severity}: {place}: {self.what}{proof}. Fix: {self.fix}"


def ordered(findings: list[Finding]) -> list[Finding]:
    """Return each finding once, worst first, then by line."""
    return sorted(dict.fromkeys(findings), key=lambda one: (_ORDER[one.severity], one.line, one.where, one.code))


def secret_name(name: str) -> bool:
    """Whether a variable of this name holds a secret."""
    return bool(_SECRET_NAME.search(name))


def secret_value(value: str) -> bool:
    """Whether a value is a token by its own form, or a URL with a password."""
    return bool(_SECRET_VALUE.search(value))


def is_reference(value: str) -> bool:
    """Whether Compose fills the value in: `${HF_TOKEN}`, `$HF_TOKEN`; a default in it counts as written out."""
    inner = re.fullmatch(r"\$\{?[A-Za-z_]\w*(?P<rest>[^}]*)\}?", value.strip())
    return bool(inner) and not re.match(r":?-.", inner["rest"] if inner else "")
