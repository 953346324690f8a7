"""Which hosts lead to the machine's own registry."""

import socket
from pathlib import Path

import pytest

from bridge.config import Config
from bridge.plan import Image
from bridge.service import hosts
from bridge.service.parts import policy
from bridge.units import Address

TRIE = """Main:
  +-- 0.0.0.0/0 3 0 5
     |-- 0.0.0.0
        /0 universe UNICAST
     +-- 192.0.2.0/30 2 0 2
        |-- 192.0.2.0
           /24 link UNICAST
        |-- 192.0.2.2
           /32 host LOCAL
     |-- 192.0.2.255
        /32 link BROADCAST
     |-- 127.0.0.0
        /32 link BROADCAST
        /8 host LOCAL
     |-- 127.0.0.1
        /32 host LOCAL
"""

TABLE = """# names
127.0.0.1 localhost
192.0.2.2	build.example.com build  # this machine
192.0.2.9 other.example.com

"""


def test_the_machines_own_addresses_are_found_and_no_networks_and_broadcasts() -> None:
    assert list(hosts.ipv4_addresses(TRIE)) == ["192.0.2.2", "127.0.0.1"]
    lines = "00000000000000000000000000000001 01 80 10 80 lo\n20010db8000000000000000000000002 02 40 00 80 eth0\n"
    assert list(hosts.ipv6_addresses(lines)) == ["::1", "2001:db8::2"]


def test_names_are_those_of_the_addresses_and_no_others() -> None:
    assert list(hosts.names(TABLE, {"192.0.2.2"})) == ["build.example.com", "build"]
    assert list(hosts.names(TABLE, {"192.0.2.3"})) == []


def test_a_registry_that_listens_everywhere_is_reached_by_every_address_of_the_machine() -> None:
    here = set(hosts.ipv4_addresses(Path("/proc/net/fib_trie").read_text(encoding="utf-8")))
    for host in here:
        with socket.socket() as probe:
            probe.bind((host, 0))  # only an address of the machine can be bound
    assert here | {"127.0.0.1", "localhost", socket.gethostname()} <= hosts.own("0.0.0.0")
    rules = policy(Config(), Address("0.0.0.0:5000"))
    for host in here:
        assert rules.decide(f"{host}:5000/app:1", Image("1" * 64)).reason == "was pulled from this registry"
        assert rules.decide(f"{host}:5001/app:1", Image("1" * 64)).reason == ""


@pytest.mark.parametrize("listen", ["192.0.2.7", "127.0.0.1"])
def test_one_that_listens_on_one_address_is_not_reached_by_the_others(listen: str) -> None:
    here = set(hosts.ipv4_addresses(Path("/proc/net/fib_trie").read_text(encoding="utf-8")))
    assert hosts.own(listen) & here <= {"127.0.0.1", listen}


def test_a_name_that_only_a_name_server_knows_is_published_and_the_rule_that_skips_it_is_told() -> None:
    rules = policy(Config(), Address("127.0.0.1:5000"))
    decision = rules.decide("registry.lan:5000/app:1", Image("1" * 64))
    assert str(*decision.references) == "registry.lan_5000/app:1"
    assert "a rule with match: 'registry.lan:5000/*' and skip: true leaves it out" in decision.trace[-1]
    assert "skip: true" not in rules.decide("registry.lan:5001/app:1", Image("1" * 64)).trace[-1]
