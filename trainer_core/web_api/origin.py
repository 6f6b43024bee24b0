"""Which requests may change anything: those of a page of this very server. Browsers do not let other sites fake it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Refusal:
    """Why a request is turned away. status: HTTP's. said: one sentence."""

    status: int
    said: str


def refusal_to_change(headers: Mapping[str, str]) -> Refusal | None:
    """Why a POST with these headers may change nothing; None where it may.

    It has to be JSON, which no other site's form can send, and to name this server as its Origin. headers: without
    regard to case, as every web framework gives them."""
    host = headers.get("Host", "")
    if not host or headers.get("Origin") not in (f"http://{host}", f"https://{host}"):
        return Refusal(403, "only a page of this very server changes anything; programs send its address as Origin")
    if headers.get("Content-Type", "").split(";")[0].strip().lower() != "application/json":
        return Refusal(415, "a change is asked for in JSON (Content-Type: application/json)")
    return None
