"""`podbridge sync`: one pass, for timers and scripts."""

import json
import re
import signal
from collections.abc import Iterator

import pytest

from tests.end_to_end.programs import eventually, processes_on, run, scratch
from tests.end_to_end.services import Service
from tests.end_to_end.stores import Store


@pytest.fixture(scope="module")
def large() -> Iterator[Store]:
    """A store with an image whose export takes a while."""
    with scratch() as directory:
        store = Store(directory)
        store.build_large("localhost/large:1", 250)
        yield store


def test_dry_run_says_what_would_be_done_and_does_nothing(own: Service) -> None:
    image = own.store.build("localhost/hello:1")
    expected = f"would publish hello:1 from localhost/hello:1 (image {image[:12]})"
    assert own.tell("sync", "--dry-run") == expected
    assert not own.tree.exists()
    own.tell("sync")
    own.store.podman("untag", "localhost/hello:1")
    assert own.tell("sync", "--dry-run") == "would withdraw hello:1"
    told = json.loads(own.tell("sync", "--dry-run", "--json"))
    assert [view["reference"] for view in told["withdraw"]] == ["hello:1"]
    assert (told["publish"], told["heldBack"]) == ([], [])
    assert own.tell("list", "--tree", str(own.tree)).splitlines()[1].startswith("hello:1 ")


def test_one_pass_publishes_and_withdraws_everything(own: Service) -> None:
    own.store.build("localhost/a:1")
    own.store.build("localhost/b:1")
    assert own.tell("sync") == f"2 published in {own.tree}"
    own.store.podman("rmi", "localhost/a:1")
    assert own.tell("sync") == f"1 published in {own.tree}"
    assert json.loads(own.tell("sync", "--json")) == {"published": ["b:1"], "failures": {}}
    assert own.tell("verify") == "the tree is whole"
    eventually(lambda: processes_on(own.store.directory) == [])


def test_where_podman_is_away_it_fails_and_says_so_in_one_line(own: Service) -> None:
    done = own.ask("sync", "--podman-socket", f"unix://{own.directory}/away.sock")
    assert (done.returncode, done.stdout, "Traceback" in done.stderr) == (1, "", False), done.stderr
    told = f"podbridge: podman does not answer on {own.directory}/away.sock: No such file or directory"
    assert done.stderr.splitlines()[-1] == told


def test_it_is_refused_beside_a_service_on_the_same_tree(own: Service) -> None:
    own.start()
    done = own.ask("sync")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("podbridge: another podbridge, pid ")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_it_exits_130_and_leaves_nothing(large: Store, number: signal.Signals) -> None:
    with scratch() as directory:
        service = Service(large, directory / "p").begin("sync")
        eventually(lambda: service.staged() > 1_000_000)
        assert service.end(number) == 130
        assert list((service.tree / "staging").iterdir()) == []
        assert list((service.tree / "repositories").glob("*/")) == []
        eventually(lambda: processes_on(large.directory) == [])
        assert "Traceback" not in service.said()


def test_killed_it_leaves_nothing_that_the_next_pass_does_not_mend(large: Store) -> None:
    with scratch() as directory:
        service = Service(large, directory / "p").begin("sync")
        eventually(lambda: service.staged() > 1_000_000)
        service.end(signal.SIGKILL)
        assert service.tell("sync").startswith("1 published")
        assert service.tell("verify") == "the tree is whole"
        assert list((service.tree / "staging").iterdir()) == []


def test_a_full_disk_fails_one_image_with_podmans_words_and_is_warned_of_once(own: Service) -> None:
    own.store.build("localhost/small:1")
    own.store.build_large("localhost/large:1", 3)
    own.tree.mkdir()
    run("mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", own.tree)
    own.start()
    eventually(lambda: own.client.shows("small", "1", own.store.digest("localhost/small:1")))
    eventually(lambda: re.search(r"failed ([2-9]|\d\d) times", own.ask("status").stdout))
    assert "no space left on device" in own.ask("status").stdout
    assert own.said().count("publication failed, will try again reference=large:1") == 1
    assert own.client.shows("small", "1", own.store.digest("localhost/small:1"))
    run("mount", "-o", "remount,size=20m", own.tree)
    own.tell("resync")
    eventually(lambda: own.client.shows("large", "1", own.store.digest("localhost/large:1")))


def test_images_whose_layers_are_known_are_not_read_again(large: Store) -> None:
    with scratch() as directory:
        service = Service(large, directory / "p")
        service.tell("sync")
        blobs = {path.name: path.stat().st_ino for path in (service.tree / "blobs" / "sha256").iterdir()}
        large.buildah("from", "--pull-never", "--name", "child", "localhost/large:1")
        large.buildah("config", "--label", "changed=yes", "child")
        large.buildah("commit", "--quiet", "--rm", "child", "localhost/child:1")
        try:
            service.tell("sync")
        finally:
            large.podman("rmi", "localhost/child:1")
        after = {path.name: path.stat().st_ino for path in (service.tree / "blobs" / "sha256").iterdir()}
        assert blobs.items() <= after.items()
        assert service.tell("verify") == "the tree is whole"
