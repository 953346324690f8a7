"""What operators say of publishing: by rule, by label, by hand, and for how long."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.end_to_end.programs import eventually, scratch
from tests.end_to_end.services import Service
from tests.end_to_end.stores import Store
from tests.kinds import layouts, seen
from tests.kinds.layouts import Layer, tar
from tests.kinds.workshop import Workshop

RULES: list[dict[str, Any]] = [
    {"match": "localhost/kept-*", "keep": True},
    {"match": "localhost/week-*", "keep": "7d"},
    {"match": "localhost/both-*", "exclude": "localhost/both-not-*", "as": ["one/{name}:{tag}", "two/{id}:{tag}-x"]},
    {"match": "localhost/staged-*", "label": {"stage": "prod*"}, "as": "{label[stage]}/{name}:{tag}"},
    {"match": ["localhost/secret-*", "localhost/staged-*"], "skip": True},
]


@pytest.fixture(scope="module")
def running() -> Iterator[tuple[Workshop, Service]]:
    """An empty store with a service on it that has the rules above."""
    with scratch() as directory:
        workshop = Workshop(Store(directory), directory / "s", "")
        workshop.directory.mkdir()
        with Service(workshop.store, directory / "p", {"publish": RULES}) as service:
            yield workshop, service


@pytest.fixture
def workshop(running: tuple[Workshop, Service]) -> Workshop:
    return running[0]


@pytest.fixture
def service(running: tuple[Workshop, Service]) -> Service:
    return running[1]


def take(workshop: Workshop, name: str, **labels: str) -> str:
    """Have a small image in the store as `localhost/<name>:1`; return its ID."""
    layers = [Layer(tar(name))]
    layouts.write(workshop.directory / name, layers, layouts.config(layers, config={"Labels": labels}))
    return workshop.take(f"dir:{workshop.directory / name}", name)


def shown(service: Service) -> set[str]:
    """Return every reference that the registry shows."""
    repositories = service.client.get("/v2/_catalog").json["repositories"]
    tags = {name: service.client.get(f"/v2/{name}/tags/list").json["tags"] for name in repositories}
    return {f"{name}:{tag}" for name in repositories for tag in tags[name]}


def test_an_image_that_says_so_is_not_published(workshop: Workshop, service: Service) -> None:
    take(workshop, "private", **{"io.podbridge.publish": "false"})
    service.tell("resync")
    assert "its image says io.podbridge.publish=false" in service.tell("explain", "private:1")
    assert service.client.digest("private", "1") is None


def test_an_image_is_published_as_its_label_says(workshop: Workshop, service: Service) -> None:
    take(workshop, "labelled", **{"io.podbridge.as": "team/app:7 mirror/app:latest"})
    digest = workshop.store.digest("localhost/labelled:1")
    eventually(lambda: service.client.shows("team/app", "7", digest))
    eventually(lambda: service.client.shows("mirror/app", "latest", digest))
    assert service.client.digest("labelled", "1") is None
    assert "named by label io.podbridge.as" in service.tell("explain", "localhost/labelled:1")


def test_a_rule_gives_several_names_and_leaves_out_what_it_excludes(workshop: Workshop, service: Service) -> None:
    image = take(workshop, "both-x")
    take(workshop, "both-not-y")
    digest = workshop.store.digest("localhost/both-x:1")
    eventually(lambda: service.client.shows("one/both-x", "1", digest))
    eventually(lambda: service.client.shows(f"two/{image}", "1-x", digest))
    eventually(lambda: "both-not-y:1" in shown(service))  # the catalog follows the manifest
    assert {name for name in shown(service) if "both" in name} == {"one/both-x:1", "both-not-y:1"}


def test_explain_prints_the_rules_one_by_one(workshop: Workshop, service: Service) -> None:
    take(workshop, "staged-a", stage="production")
    take(workshop, "staged-b", stage="test")
    eventually(lambda: service.client.digest("production/staged-a", "1"))
    published, left_out = service.tell("explain", "staged-a:1"), service.tell("explain", "staged-b:1")
    assert [line.strip() for line in published.splitlines() if "rule" in line] == [
        "rule 1: match localhost/kept-* does not fit the name",
        "rule 2: match localhost/week-* does not fit the name",
        "rule 3: match localhost/both-* does not fit the name",
        "rule 4: published as production/staged-a:1",
    ]
    assert [line.strip() for line in left_out.splitlines() if "rule" in line][-2:] == [
        "rule 4: label stage=test is not prod*",
        "not published: rule 5 skips it",
    ]
    assert service.client.digest("staged-b", "1") is None


def test_a_publication_is_kept_as_long_as_its_rule_says(workshop: Workshop, service: Service) -> None:
    names = ("kept-for-good", "week-long", "brief")
    for name in names:
        take(workshop, name)
    digests = {name: workshop.store.digest(f"localhost/{name}:1") for name in names}
    for name in names:
        eventually(lambda name=name: service.client.shows(name, "1", digests[name]))  # type: ignore[misc]
    workshop.store.podman("rmi", *(f"localhost/{name}:1" for name in names))
    eventually(lambda: service.client.digest("brief", "1") is None)
    assert seen.image(service.client, "kept-for-good", "1").digest == digests["kept-for-good"]
    assert seen.image(service.client, "week-long", "1").digest == digests["week-long"]
    good, week = seen.view(service, "kept-for-good:1"), seen.view(service, "week-long:1")
    assert good["message"] == "kept, its image has left podman's store"
    assert week["message"].startswith("kept until ")
    assert (good["keep"], week["keep"]) == (None, 7 * 86400)
    workshop.take(f"dir:{workshop.directory / 'week-long'}", "week-long")
    eventually(lambda: "message" not in seen.view(service, "week-long:1"))


def test_what_is_held_stays_out_until_it_is_published_by_hand(workshop: Workshop, service: Service) -> None:
    take(workshop, "vulnerable")
    digest = workshop.store.digest("localhost/vulnerable:1")
    eventually(lambda: service.client.shows("vulnerable", "1", digest))
    refused = service.ask("withdraw", "vulnerable:1")
    assert (refused.returncode, "--hold" in refused.stderr) == (1, True)
    assert service.tell("withdraw", "vulnerable:1", "--hold") == "vulnerable:1 is withdrawn, and held"
    workshop.store.podman("tag", "localhost/vulnerable:1", "localhost/vulnerable:2")
    eventually(lambda: service.client.shows("vulnerable", "2", digest))
    service.tell("resync")
    assert service.client.digest("vulnerable", "1") is None
    assert seen.view(service, "vulnerable:1")["state"] == "Held"
    assert "held" in service.tell("explain", "localhost/vulnerable:1")
    assert f"vulnerable:1 {digest} exact" in service.tell("publish", "localhost/vulnerable:1").splitlines()
    service.tell("resync")
    assert service.client.shows("vulnerable", "1", digest)


def test_an_image_is_published_by_hand_where_no_rule_would(workshop: Workshop, service: Service) -> None:
    take(workshop, "secret-x")
    refused = service.ask("publish", "localhost/secret-x:1")
    assert (refused.returncode, "rule 5 skips it" in refused.stderr) == (1, True)
    service.tell("publish", "localhost/secret-x:1", "--as", "opened/x:1")
    service.tell("resync")
    assert service.client.shows("opened/x", "1", workshop.store.digest("localhost/secret-x:1"))
    assert "published by hand" in service.tell("explain", "localhost/secret-x:1")
    service.tell("withdraw", "opened/x:1")
    service.tell("resync")
    assert service.client.digest("opened/x", "1") is None


LONG = f"example.com/{'long' * 60}:1"
UNFIT = {"upper case": ("Registry.Example.COM/app:1", []), "too long": (LONG, [{"as": "mirrored/{host}/{path}:{tag}"}])}


@pytest.mark.parametrize("why", UNFIT)
def test_a_name_that_cannot_be_published_is_told_with_the_rule_that_maps_it(why: str) -> None:
    name, rules = UNFIT[why]
    with scratch() as directory:
        workshop = Workshop(Store(directory), directory / "s", "")
        workshop.directory.mkdir()
        take(workshop, "fine")
        workshop.store.podman("tag", "localhost/fine:1", name)
        workshop.store.podman("untag", "localhost/fine:1", "localhost/fine:1")
        service = Service(workshop.store, directory / "p", {"publish": rules})
        with service:
            (line,) = [line for line in service.said().splitlines() if "name cannot be published" in line]
            assert name in line
            assert f"a rule with match: '{name}' and as: can map it" in service.tell("explain", name)
            assert shown(service) == set()
        service.configure({"publish": [{"match": name, "as": "mapped:{tag}"}, *rules]})
        service.tell("sync")
        (view,) = json.loads(service.tell("list", "--json", "--tree", str(service.tree)))
        assert (view["reference"], view["name"]) == ("mapped:1", name)
