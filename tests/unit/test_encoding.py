"""What an `Accept-Encoding` header makes of a blob."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.registry.encoding import choose

TAKEN = [
    "gzip", "GZIP", "x-gzip", "deflate, gzip", "gzip, deflate, br", "gzip;q=0.001", "gzip ; q=1.000", "gzip;Q=0.5",
    "*", "*;q=0.1", "identity;q=0, *", "gzip;q=1.0, identity;q=0.5, *;q=0", "identity;q=0, gzip", ",,gzip,",
    "zstd;q=1.0, gzip;q=0.8, deflate;q=0.5", "gzip;q=0.2, identity;q=banana",
]  # fmt: skip
REFUSED = [
    "", " ", ",", "identity", "deflate, br", "gzip;q=0", "gzip;q=0.000", "*;q=0", "gzip;q=0, *", "*, gzip;q=0",
    "gzip, gzip;q=0", "gzip;q=", "gzip;q=2", "gzip;q=-1", "gzip;q=1.0001", "gzip;q=nan", "gzip;q=inf", "gzip;q=1e0",
    "gzip;level=1", "gzip;q=1;q=0", "gzip;q =1", "gzip gzip", "xgzip", "gzip2", "identity;q=0", "identity;q=0, br",
    "gzip;q=0.5, identity", "gzip;q=0.5, identity;q=0.6", "gzip;q=0.5, *;q=0.6", "gzip;q=\u0660.\u0665", "\x00",
]  # fmt: skip


@pytest.mark.parametrize("header", TAKEN)
def test_a_client_that_takes_gzip_gets_it(header: str) -> None:
    assert choose(header, "gzip") == "gzip"


@pytest.mark.parametrize("header", REFUSED)
def test_a_client_that_does_not_clearly_take_gzip_gets_the_identity(header: str) -> None:
    assert choose(header, "gzip") == "identity"


@given(st.text())
def test_no_header_is_too_strange(header: str) -> None:
    assert choose(header, "gzip") in ("gzip", "identity")


weights = st.integers(0, 1000).map(lambda thousandths: f"{thousandths / 1000:g}")
others = st.sampled_from(["br", "zstd", "deflate", "compress"])
elements = st.lists(st.tuples(others, weights)).map(lambda pairs: [f"{name};q={weight}" for name, weight in pairs])


@given(elements, elements, weights)
def test_the_weight_of_gzip_decides_whatever_stands_around_it(before: list[str], after: list[str], weight: str) -> None:
    header = ", ".join([*before, f"gzip;q={weight}", *after])
    assert (choose(header, "gzip") == "gzip") == (float(weight) > 0)


@given(elements, weights, weights)
def test_the_identity_is_sent_where_it_is_wanted_more(around: list[str], gzip: str, identity: str) -> None:
    header = ",".join([f"identity;q={identity}", *around, f"gzip;q={gzip}"])
    assert (choose(header, "gzip") == "gzip") == (float(gzip) > 0 and float(gzip) >= float(identity))


@given(elements)
def test_a_client_that_names_neither_gzip_nor_all_gets_the_identity(around: list[str]) -> None:
    assert choose(", ".join(around), "gzip") == "identity"
