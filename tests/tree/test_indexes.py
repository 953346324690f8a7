"""What was published from an image is found, however much else there is."""

import time

from bridge.oci import OCI_MANIFEST, Descriptor, Digest, Reference
from bridge.plan import Fidelity, Publication, Source
from bridge.tree.index import Index
from bridge.tree.indexes import Indexes


def publication(reference: str, image: int) -> Publication:
    digest = Digest("sha256", f"{image:064x}")
    return Publication(
        Reference.parse(reference),
        Descriptor(OCI_MANIFEST, digest, 1),
        Source(digest.hex, digest),
        Fidelity.EXACT,
        reference,
        1,
        1.0,
    )


def show(indexes: Indexes, *items: Publication) -> None:
    for item in items:
        repository = item.reference.repository
        indexes[repository] = indexes.get(repository, Index(repository)).publish(item, 2.0)


def test_what_is_shown_and_what_was_is_found_until_it_is_swept() -> None:
    indexes = Indexes()
    old, new, other = publication("a:1", 1), publication("a:1", 2), publication("b:1", 1)
    show(indexes, old, new, other)
    assert {item.reference for item in indexes.of(old.source)} == {old.reference, other.reference}
    indexes[old.reference.repository] = indexes[old.reference.repository].sweep(
        lambda superseded: superseded.since < 3.0
    )
    assert list(indexes.of(old.source)) == [other]
    assert list(indexes.of(new.source)) == [new]
    del indexes[other.reference.repository]
    assert list(indexes.of(old.source)) == []


def test_thousands_of_images_that_wait_are_looked_for_among_thousands_without_a_walk_for_each() -> None:
    indexes = Indexes()
    show(indexes, *(publication(f"app{number}:1", number) for number in range(5000)))
    begun = time.process_time()
    assert not any(list(indexes.of(publication("new:1", number).source)) for number in range(5000, 10000))
    assert time.process_time() - begun < 2
