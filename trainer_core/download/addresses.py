"""Which addresses of the network a download may reach: those of the public one."""

from __future__ import annotations

import ipaddress
import socket
from urllib.parse import urlsplit

from ..errors import DataError


def check_public(url: str) -> None:
    """Raise DataError for an address that is no http(s), has a password in it, or leads to a private network.

    It is looked up once here, for a clear sentence; `guarded` holds every connection to the same rule."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise DataError(f"{url} is no address ({error}); correct it") from None
    if parts.scheme not in ("http", "https") or not host:
        raise DataError(f"{url} is no address of a site; begin it with https://")
    if parts.username or parts.password:
        raise DataError(f"the address at {host} has a user name in it; remove what stands before the @")
    try:
        found = socket.getaddrinfo(host, port or 443, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise DataError(f"{host} cannot be found ({error}); check the name and the network") from None
    for *_, address in found:
        if not is_public(str(address[0])):
            raise DataError(
                f"{host} is {address[0]}, which is no public address; only public sites are downloaded from"
            )


def is_public(address: str) -> bool:
    """Whether a numeric address belongs to the public network: not to this machine, its neighbours or a cloud's own."""
    number = ipaddress.ip_address(address.partition("%")[0])
    number = getattr(number, "ipv4_mapped", None) or number
    return number.is_global and not number.is_multicast
