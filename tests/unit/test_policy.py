"""Podman names become references: by default, by rules, and never by surprise."""

from collections.abc import Mapping

import pytest

from bridge.plan import Image, Keep
from bridge.policy import Policy, Rule

ID = "1" * 64


def image(*names: str, number: int = 1, labels: Mapping[str, str] | None = None) -> Image:
    return Image(f"{number:064x}", names, labels=labels or {})


def references(policy: Policy, name: str, **labels: str) -> list[str]:
    return [str(reference) for reference in policy.decide(name, image(name, labels=labels)).references]


@pytest.mark.parametrize(
    ("name", "reference"),
    [
        ("localhost/app:1", "app:1"),
        ("localhost/org/app:latest", "org/app:latest"),
        ("quay.io/org/app:2", "quay.io/org/app:2"),
        ("reg.example.com:5000/x:3", "reg.example.com_5000/x:3"),
        ("docker.io/library/alpine:edge", "docker.io/library/alpine:edge"),
    ],
)
def test_without_rules_localhost_is_dropped_and_other_hosts_are_kept(name: str, reference: str) -> None:
    assert references(Policy(), name) == [reference]


@pytest.mark.parametrize("host", ["docker.io/library", "localhost"])
def test_a_name_that_an_image_has_only_while_it_is_built_is_left_out(host: str) -> None:
    name = f"{host}/{'0f' * 32}-tmp:latest"
    assert Policy().decide(name, image(name)).reason == "is buildah's name for an image that it is still building"
    assert references(Policy(), name.replace("latest", "1")) != []
    assert references(Policy(), name.replace("0f-", "f-")) != []


@pytest.mark.parametrize("path", ["tmp/x", "tmp/build/oci", "var/tmp/x", "root/x", "run/a/b", "home/me/x", "srv/a/b/c"])
def test_a_name_that_podman_made_of_a_path_of_this_machine_needs_a_rule_that_names_it(path: str) -> None:
    name = f"localhost/{path}:latest"
    decision = Policy((Rule("localhost/*"),)).decide(name, image(name))
    assert not decision.references
    assert f"/{path} of this machine" in decision.reason
    assert "as:" in decision.reason
    assert references(Policy((Rule(name, as_="mapped:1"),)), name) == ["mapped:1"]
    assert references(Policy(), name, **{"io.podbridge.as": "named:1"}) == ["named:1"]


@pytest.mark.parametrize(
    "name", ["tmp:latest", "tmp/x:1", "home/assistant:latest", "media/player:latest", "x/tmp/y:latest"]
)
def test_a_name_that_may_be_a_persons_own_is_published(name: str) -> None:
    assert references(Policy(), f"localhost/{name}") == [name]


@pytest.mark.parametrize("name", ["localhost/app@sha256:" + "0" * 64, "app", "localhost/app", ""])
def test_names_with_a_digest_or_without_a_tag_are_left_out(name: str) -> None:
    decision = Policy().decide(name, image(name))
    assert not decision.references
    assert not decision.refused


@pytest.mark.parametrize("name", ["REG.example.com/x:1", "localhost/" + "a" * 300 + ":1", "[::1]:5000/x:1"])
def test_a_name_that_cannot_be_published_says_why_and_how_to_map_it(name: str) -> None:
    decision = Policy().decide(name, image(name))
    assert decision.refused
    assert "as:" in decision.reason


def test_a_name_from_this_registry_is_not_published_again() -> None:
    policy = Policy(own=frozenset({"127.0.0.1:5000"}))
    assert "this registry" in policy.decide("127.0.0.1:5000/app:1", image()).reason
    assert references(policy, "127.0.0.1:5001/app:1") == ["127.0.0.1_5001/app:1"]


def test_the_first_rule_that_matches_decides() -> None:
    policy = Policy((Rule(match="localhost/secret*", skip=True), Rule(match="localhost/*", as_="x/{path}:{tag}")))
    assert references(policy, "localhost/secret:1") == []
    assert references(policy, "localhost/app:1") == ["x/app:1"]
    assert references(policy, "quay.io/app:1") == ["quay.io/app:1"]


def test_a_rule_can_match_several_globs_and_labels() -> None:
    policy = Policy((Rule(match=("localhost/*", "quay.io/*"), label={"stage": "prod*"}), Rule(skip=True)))
    assert references(policy, "localhost/app:1", stage="production") == ["app:1"]
    assert references(policy, "localhost/app:1", stage="test") == []
    assert references(policy, "localhost/app:1") == []


def test_a_rule_can_name_several_targets_from_all_fields() -> None:
    rule = Rule(as_=("a/{host}/{path}:{tag}", "b/{name}:{label[com.example.version]}", "c:{id}"))
    found = [
        str(reference)
        for reference in Policy((rule,))
        .decide("h.io:1/org/app:2", image("h.io:1/org/app:2", labels={"com.example.version": "9"}))
        .references
    ]
    assert found == ["a/h.io_1/org/app:2", "b/app:9", f"c:{1:064x}"]


def test_a_template_with_a_label_that_is_missing_refuses_the_name() -> None:
    decision = Policy((Rule(as_="x:{label[v]}"),)).decide("localhost/app:1", image())
    assert decision.refused
    assert "'v'" in decision.reason


@pytest.mark.parametrize("template", ["{pth}:1", "{path.__class__}:1", "{", "{0}:1", "{path!r}{:1"])
def test_a_template_with_an_unknown_field_is_refused_when_it_is_read(template: str) -> None:
    with pytest.raises(ValueError, match="bad template"):
        Rule(as_=template)


def test_of_two_names_for_one_reference_the_first_in_order_wins_whatever_the_listing() -> None:
    one = image("reg.io:1/x:1", number=1)
    two = image("reg.io_1/x:1", number=2)
    for listing in ([one, two], [two, one]):
        wanted = Policy().wanted(listing)
        assert [target.name for target in wanted.targets.values()] == ["reg.io:1/x:1"]
        [conflict] = wanted.conflicts
        assert (conflict.winner, conflict.loser) == ("reg.io:1/x:1", "reg.io_1/x:1")


def test_an_image_with_two_names_is_wanted_twice() -> None:
    assert len(Policy().wanted([image("localhost/a:1", "localhost/b:1")]).targets) == 2


def test_a_rule_can_exclude_what_it_would_match() -> None:
    policy = Policy((Rule(match="localhost/*", exclude=("*:dev", "*/tmp*"), as_="x/{path}:{tag}"), Rule(skip=True)))
    assert references(policy, "localhost/app:1") == ["x/app:1"]
    assert references(policy, "localhost/app:dev") == []
    assert references(policy, "localhost/tmp/app:1") == []


def test_an_image_can_say_that_no_rule_publishes_it() -> None:
    policy = Policy((Rule(as_="x/{path}:{tag}"),))
    assert references(policy, "localhost/app:1", **{"io.podbridge.publish": "false"}) == []
    assert references(policy, "localhost/app:1", **{"io.podbridge.publish": "true"}) == ["x/app:1"]


def test_an_image_can_name_its_references_where_its_rule_does_not() -> None:
    label = {"io.podbridge.as": "team/app:2 team/app:latest"}
    assert references(Policy(), "localhost/app:1", **label) == ["team/app:2", "team/app:latest"]
    assert references(Policy((Rule(as_="x:{tag}"),)), "localhost/app:1", **label) == ["x:1"]
    assert Policy().decide("localhost/app:1", image(labels={"io.podbridge.as": "NO"})).refused


def test_a_label_takes_no_reference_away_from_the_name_that_has_it() -> None:
    owner, thief = image("localhost/zzz:1"), image("localhost/aaa:1", number=2, labels={"io.podbridge.as": "zzz:1"})
    wanted = Policy().wanted([thief, owner])
    assert [target.name for target in wanted.targets.values()] == ["localhost/zzz:1"]
    assert len(wanted.conflicts) == 1


def test_the_trace_tells_why_each_rule_did_not_decide() -> None:
    rules = (Rule(match="quay.io/*"), Rule(exclude="*:1"), Rule(label={"a": "b"}), Rule(as_="x/{path}:{tag}"))
    trace = Policy(rules).decide("localhost/app:1", image()).trace
    assert trace == (
        "rule 1: match quay.io/* does not fit the name",
        "rule 2: exclude *:1 fits the name",
        "rule 3: the image has no label a",
        "rule 4: published as x/app:1",
    )


def test_a_rule_says_how_long_its_publications_are_kept_and_the_rest_is_the_default() -> None:
    policy = Policy((Rule(match="localhost/*", keep=Keep(5)),), keep=Keep(9))
    assert policy.decide("localhost/app:1", image()).keep == Keep(5)
    assert policy.decide("quay.io/app:1", image()).keep == Keep(9)
