"""What the service builds its policy on: the addresses that are the registry's own."""

import socket

import pytest

from bridge.config import Config, RegistryConfig
from bridge.plan import Image
from bridge.relay.calls import Call
from bridge.relay.desk import push_of
from bridge.service.parts import policy
from bridge.units import Address

IMAGE = Image("1" * 64)


@pytest.mark.parametrize(
    ("listen", "others"),
    [
        ("127.0.0.1:5000", []),
        ("[::1]:5000", ["[::1]:5000"]),
        ("[::]:5000", ["[::]:5000", "[::1]:5000"]),
        ("[2001:db8::7]:5000", ["[2001:db8::7]:5000"]),
    ],
)
def test_a_name_below_an_address_of_the_registry_is_its_own(listen: str, others: list[str]) -> None:
    rules = policy(Config(registry=RegistryConfig(listen=Address.parse(listen))))
    for host in (*others, "localhost:5000", "127.0.0.1:5000", f"{socket.gethostname()}:5000"):
        assert rules.decide(f"{host}/app:1", IMAGE).reason == "was pulled from this registry", host
    for host in ("localhost:5001", "[::1]:5001", "[2001:db8::8]:5000", "quay.io"):
        assert rules.decide(f"{host}/app:1", IMAGE).reason != "was pulled from this registry", host


@pytest.mark.parametrize(
    "target",
    [
        "/v1.41/images/[::1]:5000/team/app/push?tag=2",
        "/v1.41/images/%5B::1%5D:5000%2Fteam%2Fapp/push?tag=2",
        "/v4.0.0/libpod/images/app/push?destination=[::1]:5000/team/app:2",
        "/v4.0.0/libpod/manifests/app/registry/%5B::1%5D:5000%2Fteam%2Fapp:2",
    ],
)
def test_a_push_to_an_ipv6_address_is_known_by_it(target: str) -> None:
    push = push_of(Call.parse("POST", target))
    assert push is not None
    assert (push.host, str(push.reference)) == ("[::1]:5000", "team/app:2")
    assert push.host in policy(Config(), Address("[::1]:5000")).own
