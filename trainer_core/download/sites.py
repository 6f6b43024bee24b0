"""The sites that are known by name, and the page of each that lists what has some tags."""

from __future__ import annotations

from urllib.parse import quote_plus

from ..errors import DataError
from .config import DownloadConfig

SITES = {
    "danbooru": "https://danbooru.donmai.us/posts?tags={}",
    "safebooru": "https://safebooru.org/index.php?page=post&s=list&tags={}",
    "gelbooru": "https://gelbooru.com/index.php?page=post&s=list&tags={}",
    "konachan": "https://konachan.net/post?tags={}",
    "yandere": "https://yande.re/post?tags={}",
    "e926": "https://e926.net/posts?tags={}",
}


def address_of(config: DownloadConfig) -> str:
    """The address that is downloaded from. Raises DataError for a site that is neither known nor an address, and for a
    site without tags, which would be all of it."""
    site, tags = config.site.strip(), " ".join(config.tags.split())
    if site.startswith(("https://", "http://")):
        if tags:
            raise DataError("an address has its tags in it; leave tags empty, or name a site instead")
        return site
    if site.lower() not in SITES:
        raise DataError(f"the site {site!r} is not known; name one of {', '.join(SITES)}, or an https:// address")
    if not tags:
        raise DataError(f"no tags are given for {site}; write some, as in shiroko_(blue_archive) 1girl")
    return SITES[site.lower()].format(quote_plus(tags))
