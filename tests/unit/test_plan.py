"""The difference of store and tree, as a pure function."""

import math
import time
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.oci import OCI_MANIFEST, Descriptor, Digest, Reference, Repository, Tag
from bridge.plan import (
    NOT_KEPT,
    Fidelity,
    Image,
    Keep,
    Plan,
    Publication,
    Shown,
    Target,
    is_mass_withdrawal,
    make_plan,
)

NOW = 1_000_000.0


def digest(number: int) -> Digest:
    return Digest("sha256", f"{number:064x}")


def image(number: int, size: int = 1) -> Image:
    return Image(f"{number:064x}", (f"localhost/app:{number}",), digest(number), frozenset({digest(number)}), size=size)


def reference(tag: object) -> Reference:
    return Reference(Repository("app"), Tag(str(tag)))


def target(tag: object, what: Image, keep: Keep = NOT_KEPT) -> Target:
    return Target(reference(tag), what, f"localhost/app:{tag}", keep=keep)


def shown(
    tag: object, what: Image, *, requested: bool = False, keep: Keep = NOT_KEPT, gone: float | None = None
) -> Publication:
    descriptor = Descriptor(OCI_MANIFEST, what.digest or digest(0), 1)
    fixed = (descriptor, what.source, Fidelity.EXACT, "", 1, 0.0)
    return Publication(reference(tag), *fixed, requested, what.digests, keep, gone)


def plan(wanted: list[Target], published: list[Publication], images: list[Image], held: set[Reference]) -> Plan:
    tree = Shown({item.reference: item for item in published}, frozenset(held))
    return make_plan({item.reference: item for item in wanted}, tree, images, NOW)


def test_a_publication_names_the_digests_of_podmans_that_are_not_served() -> None:
    """Such as that of a list that its image was pulled by: podman shows it, and it is not found here."""
    made, listed = image(1), digest(9)
    descriptor = Descriptor(OCI_MANIFEST, digest(1), 1)
    shown = Publication(
        reference(1), descriptor, made.source, Fidelity.EXACT, "localhost/app:1", 1, NOW, origins=frozenset({digest(1)})
    )
    assert shown.reason == "podman's own manifest"
    pinned = replace(shown, origins=frozenset({digest(1), listed}))
    assert str(listed) in pinned.reason
    assert "not served" in pinned.reason


def test_what_is_shown_already_needs_nothing() -> None:
    assert not plan([target(1, image(1))], [shown(1, image(1))], [image(1)], set())


def test_a_moved_tag_is_published_and_a_lost_one_withdrawn() -> None:
    made = plan([target(1, image(2))], [shown(1, image(1)), shown(9, image(1))], [image(1), image(2)], set())
    assert [item.image for item in made.publish] == [image(2)]
    assert made.withdraw == (reference(9),)


def test_the_same_image_with_another_digest_is_published_anew() -> None:
    changed = Image(image(1).id, image(1).names, digest(7), frozenset({digest(7)}))
    assert plan([target(1, changed)], [shown(1, image(1))], [changed], set()).publish


def test_what_needs_no_export_comes_first_then_the_smallest() -> None:
    big, small, known = image(1, 900), image(2, 10), image(3, 5000)
    made = plan([target(1, big), target(2, small), target(3, known)], [shown("old", known)], [big, small, known], set())
    assert [item.image for item in made.publish] == [known, small, big]


def test_a_requested_publication_stays_while_its_image_is_there_and_wins_over_a_rule() -> None:
    published = [shown(1, image(1), requested=True)]
    assert not plan([target(1, image(2))], published, [image(1), image(2)], set())
    assert plan([], published, [image(2)], set()).withdraw == (reference(1),)


def test_a_held_reference_is_withdrawn_and_not_published() -> None:
    made = plan(
        [target(1, image(1)), target(2, image(2))], [shown(1, image(1))], [image(1)], {reference(1), reference(2)}
    )
    assert made.publish == ()
    assert made.withdraw == (reference(1),)


def test_what_is_kept_for_good_outlives_its_image() -> None:
    made = plan([], [shown(1, image(1), keep=Keep(math.inf))], [], set())
    assert (made.withdraw, made.orphan) == ((), (reference(1),))
    assert not plan([], [shown(1, image(1), keep=Keep(math.inf), gone=1.0)], [], set())


def test_what_is_kept_for_a_time_goes_when_that_is_over() -> None:
    def left(gone: float) -> Plan:
        return plan([], [shown(1, image(1), keep=Keep(60), gone=gone)], [], set())

    assert not left(NOW - 59)
    assert left(NOW - 61).withdraw == (reference(1),)


def test_what_is_kept_is_withdrawn_when_it_is_held() -> None:
    assert plan([], [shown(1, image(1), keep=Keep(math.inf))], [], {reference(1)}).withdraw == (reference(1),)


def test_an_image_that_comes_back_ends_the_time_it_was_kept_for() -> None:
    kept = Keep(60)
    made = plan([target(1, image(1), kept)], [shown(1, image(1), keep=kept, gone=NOW - 9)], [image(1)], set())
    assert [item.reference for item in made.publish] == [reference(1)]


def test_a_plan_of_thousands_that_are_kept_takes_no_time_that_is_noticed() -> None:
    kept = [shown(number, image(number), keep=Keep(math.inf), gone=1.0) for number in range(5000)]
    begun = time.process_time()
    assert not plan([], kept, [], set())
    assert time.process_time() - begun < 1


def test_a_rule_that_keeps_is_noted_on_what_is_published_already() -> None:
    assert plan([target(1, image(1), Keep(60))], [shown(1, image(1))], [image(1)], set()).publish


@pytest.mark.parametrize(("count", "gone", "mass"), [(10, 5, False), (10, 6, True), (9, 9, False), (100, 51, True)])
def test_more_than_half_of_at_least_ten_is_a_mass_withdrawal(count: int, gone: int, mass: bool) -> None:
    tree = Shown({reference(number): shown(number, image(number)) for number in range(count)})
    wanted = {reference(number): target(number, image(number)) for number in range(gone, count)}
    made = make_plan(wanted, tree, [], NOW)
    assert len(made.withdraw) == gone
    assert is_mass_withdrawal(made, tree, 0.5) is mass
    assert not is_mass_withdrawal(made, tree, 1.0)


numbers = st.integers(1, 5)
tags = st.dictionaries(numbers, numbers)


@given(tags, tags, st.sets(numbers))
def test_carrying_out_a_plan_leaves_nothing_to_do(
    wanted: dict[int, int], published: dict[int, int], held: set[int]
) -> None:
    targets = {reference(tag): target(tag, image(number)) for tag, number in wanted.items()}
    tree = {reference(tag): shown(tag, image(number)) for tag, number in published.items()}
    kept_out = frozenset(reference(tag) for tag in held)
    images = [image(number) for number in range(1, 6)]
    made = make_plan(targets, Shown(tree, kept_out), images, NOW)
    for item in made.publish:
        tree[item.reference] = shown(item.reference.tag, item.image)
    for gone in made.withdraw:
        del tree[gone]
    assert not make_plan(targets, Shown(tree, kept_out), images, NOW)
    assert {name: item.source for name, item in tree.items()} == {
        name: item.image.source for name, item in targets.items() if name not in kept_out
    }
