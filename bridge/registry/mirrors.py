"""Which repository a request means, for clients that ask us in place of another registry. Pure.

Podman's names keep their registry as the first component (`quay.io/org/app`). A mirror of
registries.conf asks for just that; containerd asks for `org/app` with `?ns=quay.io`.
"""

from collections.abc import Iterator

from bridge.errors import InvalidError
from bridge.oci import Repository

_HUB = "docker.io"
_OFFICIAL = "library"


def candidates(repository: Repository, namespace: str, host: str) -> Iterator[Repository]:
    """Yield the repositories that a request can mean, likeliest first.

    `namespace` is the registry that the client wants (containerd's `ns`), empty for us; `host` is what
    it calls us. What is wanted from another registry is never answered with an image that only has
    the same path here. Names too long to exist are left out.
    """
    if namespace in ("", host):
        yield repository
        yield from _hub(repository.name.removeprefix(f"{_HUB}/"), own=not repository.name.startswith(f"{_HUB}/"))
        return
    registry = namespace.replace(":", "_")
    path = repository.name.removeprefix(f"{registry}/")
    yield from _valid(f"{registry}/{path}")
    if registry == _HUB:
        yield from _hub(path, own=False)


def _hub(path: str, *, own: bool) -> Iterator[Repository]:
    """Yield docker.io's official image of that path: Docker Engine asks a mirror for `library/<name>`."""
    first, slash, _ = path.partition("/")
    if slash and first == _OFFICIAL:
        yield from _valid(f"{_HUB}/{path}")
    elif not slash and not own:
        yield from _valid(f"{_HUB}/{_OFFICIAL}/{path}")


def _valid(name: str) -> Iterator[Repository]:
    try:
        yield Repository(name)
    except InvalidError:
        return
