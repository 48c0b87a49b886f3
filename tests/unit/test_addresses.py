"""Addresses and endpoints as text."""

from __future__ import annotations

import ipaddress

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conntrack.addresses import addresses_text, endpoint_text, ip_text, parse_ip

MAPPED = b"\0" * 10 + b"\xff\xff" + bytes([192, 0, 2, 1])


def test_the_version_decides_not_the_bytes():
    assert ip_text(MAPPED, 4) == "192.0.2.1"
    assert ip_text(np.frombuffer(MAPPED, np.uint8), 6) == "::ffff:192.0.2.1"


def test_an_ipv6_endpoint_has_brackets():
    assert endpoint_text(ipaddress.ip_address("2001:db8::1").packed, 6, 443) == "[2001:db8::1]:443"
    assert endpoint_text(MAPPED, 4, 80) == "192.0.2.1:80"


def test_no_addresses_are_no_texts():
    assert addresses_text(np.empty((0, 16), np.uint8), np.empty(0, np.uint8)) == []


@settings(deadline=None)
@given(st.lists(st.tuples(st.binary(min_size=16, max_size=16), st.sampled_from([4, 6])), min_size=1, max_size=40))
def test_many_addresses_read_as_one_by_one(pairs):
    ips = np.frombuffer(b"".join(raw for raw, _ in pairs), np.uint8).reshape(-1, 16)
    versions = np.array([version for _, version in pairs], np.uint8)
    assert addresses_text(ips, versions) == [ip_text(raw, version) for raw, version in pairs]


@settings(deadline=None)
@given(st.ip_addresses(v=6))
def test_text_reads_back(address):
    assert ipaddress.ip_address(ip_text(address.packed, 6)) == address


@pytest.mark.parametrize("text", ["10.0.0.1", "255.255.255.255", "2001:db8::1", "::", "::ffff:10.0.0.1"])
def test_an_address_is_read_back(text: str) -> None:
    assert ip_text(*parse_ip(text)) == text


@pytest.mark.parametrize("text", ["", "10.0.0", "10.0.0.0/8", "host", "10.0.0.1:80", "[::1]"])
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(ValueError, match="is not an IP address"):
        parse_ip(text)
