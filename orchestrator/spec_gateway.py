"""The section `gateway:` of the stack file: where it listens, and what it lets in."""

from __future__ import annotations

import ipaddress
from pathlib import PurePosixPath
from typing import Literal

from pydantic import Field, field_validator, model_validator

from orchestrator.spec_types import Port, Section

_MOUNTABLE = r"^[A-Za-z0-9/][A-Za-z0-9._/ -]*$"


class Keys(Section):
    """Keys that callers have to send. The file holds hashes, never a key: `migrate keys add NAME` makes one."""

    file: str = Field(
        "keys/clients", pattern=_MOUNTABLE, description="hashes and names; its folder is mounted into the gateway"
    )
    mode: Literal["grace", "enforce"] = Field("grace", description="grace: who sends no key is counted, not refused")

    @field_validator("file")
    @classmethod
    def _in_a_folder(cls, file: str) -> str:
        path = PurePosixPath(file)
        if ".." in path.parts or not path.name or len(path.parts) < 2 or path.parent == PurePosixPath("/"):
            raise ValueError("should lie in a folder of its own, such as keys/clients")
        if path.parts[0] in {".state", "secrets", "gateway"}:
            raise ValueError(f"should not lie in {path.parts[0]}, which is not for the gateway to see whole")
        return file


class Gateway(Section):
    """The gateway that takes Ollama's address."""

    listen: str = Field("127.0.0.1", description="bind address, exactly the original's")
    port: Port = 11434
    control_port: Port = Field(11480, description="control door, always on loopback")
    openai_port: Port | None = Field(
        None, description="a second door for clients that already point at vLLM, such as 8000; none: there is none"
    )
    sticky: bool = Field(default=True, description="a conversation stays on its side; false: each request is drawn")
    keys: Keys | None = Field(None, description="ask callers for keys; none: anyone who reaches the port may ask")
    read_only: bool = Field(default=False, description="refuse pull, push, create, copy, delete and uploads")
    check_host: bool | None = Field(
        None, description="refuse foreign Host headers, as an Ollama on loopback does; none: as the original did"
    )

    @field_validator("listen")
    @classmethod
    def _address(cls, listen: str) -> str:
        try:
            ipaddress.ip_address(listen)
        except ValueError:
            raise ValueError("should be an IP address such as 127.0.0.1 or 0.0.0.0") from None
        return listen

    @model_validator(mode="after")
    def _apart(self) -> Gateway:
        ports = {"port": self.port, "control_port": self.control_port, "openai_port": self.openai_port}
        for first, second in (("port", "control_port"), ("port", "openai_port"), ("control_port", "openai_port")):
            if ports[first] == ports[second]:
                raise ValueError(f"{first} and {second} should differ")
        return self

    def ports(self) -> dict[str, int]:
        """Return every port on the host by its key."""
        named = {"port": self.port, "control_port": self.control_port, "openai_port": self.openai_port}
        return {key: port for key, port in named.items() if port is not None}
