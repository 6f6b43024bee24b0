"""Which addresses are downloaded from."""

from __future__ import annotations

import socket

import pytest

from trainer_core.download.addresses import check_public, is_public
from trainer_core.download.config import DownloadConfig
from trainer_core.download.guarded import _is_public
from trainer_core.download.sites import SITES, address_of
from trainer_core.errors import DataError

PRIVATE = [
    *("127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "224.0.0.1"),
    *("::1", "::", "fe80::1%eth0", "fc00::1", "::ffff:10.0.0.1", "ff02::1"),
]


@pytest.mark.parametrize("address", PRIVATE)
def test_private_addresses_are_told(address):
    assert not is_public(address) and not _is_public((address, 80))


@pytest.mark.parametrize("address", ["1.1.1.1", "93.184.216.34", "2606:4700:4700::1111"])
def test_public_addresses_are_told(address):
    assert is_public(address) and _is_public((address, 443))


def test_a_socket_without_a_numeric_address_is_not_public():
    assert not _is_public("/run/docker.sock") and not _is_public(("localhost", 80))


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("ftp://example.com/a.png", "begin it with https://"),
        ("file:///etc/passwd", "begin it with https://"),
        ("https://", "begin it with https://"),
        ("http://[::1", "is no address"),
        ("http://user:word@example.com/", "user name"),
        ("http://127.0.0.1/a.png", "no public address"),
        ("http://[::1]/a.png", "no public address"),
        ("http://2130706433/a.png", "no public address|cannot be found"),
        ("http://0x7f.1/a.png", "no public address|cannot be found"),
        ("http://example.com:99999/", "is no address"),
    ],
)
def test_what_is_no_public_site_is_refused(url, said):
    with pytest.raises(DataError, match=said):
        check_public(url)


def test_one_private_answer_among_public_ones_is_enough(monkeypatch):
    answers = [(0, 0, 0, "", (address, 443)) for address in ("1.1.1.1", "192.168.0.1")]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: answers)
    with pytest.raises(DataError, match=r"192\.168\.0\.1"):
        check_public("https://two-faced.example/")
    del answers[1]
    check_public("https://two-faced.example/")


def test_tags_are_quoted_into_the_sites_address():
    config = DownloadConfig("Danbooru", "shiroko_(blue_archive)  1girl&page=2 #?/../")
    assert address_of(config) == (
        "https://danbooru.donmai.us/posts?tags=shiroko_%28blue_archive%29+1girl%26page%3D2+%23%3F%2F..%2F"
    )
    assert all(site.startswith("https://") and site.count("{}") == 1 for site in SITES.values())


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (DownloadConfig("nowhere", "cat"), "is not known; name one of danbooru"),
        (DownloadConfig("--exec", "cat"), "is not known"),
        (DownloadConfig("danbooru", " "), "no tags are given"),
        (DownloadConfig("https://example.com/", "cat"), "leave tags empty"),
    ],
)
def test_what_names_no_search_is_refused(config, said):
    with pytest.raises(DataError, match=said):
        address_of(config)
