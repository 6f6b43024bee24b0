"""Who may ask our routes in A1111 and Forge: the UI's own page, and whoever its own API lets in.

Our routes stand beside Gradio's, whose logins do not cover them."""

from __future__ import annotations

import base64
import binascii
import secrets
from typing import Any
from urllib.parse import urlsplit

_OPENING_OPTIONS = ("listen", "share", "ngrok", "server_name")


def is_public() -> bool:
    """Whether other machines reach the server, by its address or through a tunnel."""
    options = _options()
    return any(getattr(options, name, None) for name in _OPENING_OPTIONS)


def is_welcome(request: Any) -> bool:
    """Whether who asks may, on a server that others reach: our own tab in the UI's page, behind the page's login where
    there is one (`--gradio-auth`), or a program with a name and password of `--api-auth` where `--api` or
    `--nowebui` is on."""
    return (_is_from_our_page(request) and _is_logged_in(request)) or _knows_an_api_password(request)


def _is_from_our_page(request: Any) -> bool:
    """A browser says so on its own: no other site's page can make it say this one's address."""
    address = request.headers.get("Origin") or request.headers.get("Referer") or ""
    return bool(address) and urlsplit(address).netloc == request.headers.get("Host")


def _is_logged_in(request: Any) -> bool:
    if getattr(request.app, "auth", None) is None:
        return True
    cookies = (value for name, value in request.cookies.items() if name.startswith("access-token"))
    return any(value in request.app.tokens for value in cookies)


def _knows_an_api_password(request: Any) -> bool:
    options = _options()
    given = _basic_credentials(request.headers.get("Authorization", ""))
    has_api = getattr(options, "api", False) or getattr(options, "nowebui", False)
    if not has_api or not getattr(options, "api_auth", None) or given is None:
        return False
    known = [each.strip().encode() for each in options.api_auth.split(",")]
    return any([secrets.compare_digest(given, each) for each in known])


def _basic_credentials(header: str) -> bytes | None:
    """`Basic bmFtZTpwYXNz` → name:pass."""
    scheme, _, encoded = header.partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        return base64.b64decode(encoded.strip(), validate=True)
    except binascii.Error:
        return None


def _options() -> Any:
    from modules import shared

    return shared.cmd_opts
