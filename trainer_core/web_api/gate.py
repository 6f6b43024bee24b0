"""Who may ask at all: this machine, or whoever the host itself lets in."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from .origin import Refusal

_FORWARDED = ("X-Forwarded-For", "X-Real-IP", "Forwarded")


@dataclass(frozen=True)
class Gate:
    """is_public: whether the server listens beyond its own machine, or is shared through a tunnel. is_welcome: the
    host's own check of a request, with its logins; None where it has none: then nobody is let into a public one."""

    is_public: bool
    is_welcome: Callable[[Any], bool] | None = None

    def refusal(self, request: Any, headers: Mapping[str, str], client: str) -> Refusal | None:
        """Why the request is turned away; None where it is let in. client: the address that it comes from."""
        if self.is_public and self.is_welcome is None:
            return Refusal(403, "this server is open to other machines and checks nobody; start it for its own only")
        if not self.is_public and not is_local(headers, client):
            return Refusal(403, "this server answers its own machine only; start it with --listen for others")
        if self.is_welcome is not None and not self.is_welcome(request):
            return Refusal(401, "log in on the UI's page; a program needs --api, and a name and password of --api-auth")
        return None


def is_local(headers: Mapping[str, str], client: str) -> bool:
    """Whether it comes from this machine, through no proxy, and knows the server by a name that is this machine's: a
    foreign site's name that was made to lead here is not."""
    if any(headers.get(name) for name in _FORWARDED):
        return False
    return _is_loopback(client) and _is_loopback(_without_port(headers.get("Host", "")))


def _is_loopback(name: str) -> bool:
    if name.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def _without_port(host: str) -> str:
    """`[::1]:7860` → `::1`, `localhost:7860` → `localhost`."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.rpartition(":")[0] if host.count(":") == 1 else host
