"""What was decrypted into a store is pulled with the key, as without it: nothing of it is called encrypted any more."""

import pytest

from tests.end_to_end.programs import eventually, run, scratch
from tests.end_to_end.services import Service
from tests.end_to_end.stores import Store
from tests.kinds import seen
from tests.kinds.catalogue import KINDS
from tests.kinds.workshop import Workshop

MAKERS = {kind.name: kind.make for kind in KINDS}


@pytest.mark.parametrize("name", [name for name in MAKERS if name in ("decrypted", "plain-labelled-encrypted")])
def test_clients_with_the_key_and_without_it_get_the_same_image(own: Workshop, name: str) -> None:
    MAKERS[name](own, name)
    key, _ = own.keys()
    with Service(own.store, own.store.directory / "p") as service:
        eventually(lambda: service.client.digest(name, "1"))
        served = seen.image(service.client, name, "1")
        source = f"docker://{service.address}/{name}:1"
        with scratch() as directory:
            there = Store(directory)
            words = "--quiet", "--src-tls-verify=false", "--decryption-key", str(key)
            run("skopeo", "copy", *words, source, there.skopeo_name("localhost/copied:1"))
            assert there.image_id("localhost/copied:1") == served.id
        with scratch() as directory:
            words = "--quiet", "--tls-verify=false", "--decryption-key", str(key)
            assert Store(directory).buildah("pull", *words, source) == served.id
        with scratch() as directory:
            assert seen.pull(Store(directory), f"{service.address}/{name}:1") == served.id
