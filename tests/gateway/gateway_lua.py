"""The gateway's pure Lua modules, called from Python: bytes in, bytes out."""

from __future__ import annotations

from typing import Any

from gateway_harness import TEMPLATES
from lupa.luajit21 import LuaRuntime

LUA = LuaRuntime(encoding=None, unpack_returned_tuples=True)
LUA.execute(b"package.path = '" + str(TEMPLATES / "lua").encode() + b"/?.lua;' .. package.path")


def module(name: str) -> Any:
    found = LUA.require(name.encode())
    return found[0] if isinstance(found, tuple) else found


def table(value: dict[str, Any]) -> Any:
    """A Lua table with byte-string keys, nested."""
    out = LUA.table()
    for key, item in value.items():
        out[key.encode()] = table(item) if isinstance(item, dict) else item.encode() if isinstance(item, str) else item
    return out


def plain(value: Any) -> dict[str, Any]:
    return {key.decode(): item for key, item in value.items()}
