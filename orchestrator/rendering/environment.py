"""Where the templates are, and how a value gets into YAML."""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Undefined

_REFERENCE = re.compile(r"\$\{[A-Za-z_][A-Za-z0-9_]*(?::?[-?+][^{}]*)?\}")
_UNPRINTABLE = re.compile("[\x7f-\x9f\u2028\u2029\ufeff]")


def template_root() -> Path:
    """Return the folder of the templates: inside the package of a wheel, beside it in a checkout."""
    package = Path(__file__).resolve().parent.parent
    inside = package / "templates"
    return inside if inside.is_dir() else package.parent / "templates"


@cache
def environment() -> Environment:
    """Return the Jinja environment: a missing value is an error with its name."""
    found = Environment(
        loader=FileSystemLoader(template_root()),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # noqa: S701 - YAML and nginx, not HTML; every string passes a quoting filter
    )
    found.filters["compose"] = compose
    found.filters["tojson"] = quoted
    return found


def fill(name: str, **context: Any) -> str:
    """Return the text of the template `name`."""
    return environment().get_template(name).render(**context)


def asset(name: str) -> str:
    """Return a file of the template folder that is copied as it is."""
    return (template_root() / name).read_text(encoding="utf-8")


def quoted(value: Any) -> str:
    """Return `value` as JSON that is also valid YAML, whatever characters it holds."""
    text = json.dumps(value, ensure_ascii=False, default=_unknown)
    return _UNPRINTABLE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def _unknown(value: Any) -> Any:
    if isinstance(value, Undefined):
        return str(value)  # raises with the name of what is missing
    raise TypeError(f"{type(value).__name__} cannot be rendered")


def compose(value: Any) -> str:
    """Like `quoted`, with `$` doubled so that Compose leaves it alone; whole `${NAME:?why}` stay references."""
    return quoted(_escaped(value))


def _escaped(value: Any) -> Any:
    if isinstance(value, str):
        return value if _REFERENCE.fullmatch(value) else value.replace("$", "$$")
    if isinstance(value, list | tuple):
        return [_escaped(item) for item in value]
    if isinstance(value, dict):
        return {key: _escaped(item) for key, item in value.items()}
    return value


def document(value: Any) -> str:
    """Return a configuration file: JSON for machines that people can read too."""
    return json.dumps(value, ensure_ascii=False, indent=2) + "\n"
