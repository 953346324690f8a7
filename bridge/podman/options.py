"""The options of podman's storage driver: as `/info` tells them, and as other programs are given them. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

_STORES = "imagestore"
"""How the key of additional image stores ends: `additionalimagestore`, `overlay.imagestore`, `imagestore`."""
_ALL_STORES = "additionalImageStores"
"""What podman 5 tells beside it, with all of them: `imagestore` tells the last one only, as podman 4 does."""
_NOT_SPELLABLE = frozenset(",]")


def read(told: Any) -> tuple[str, ...]:
    """Return the options, each `KEY=VALUE`, of `/info`'s `store.graphOptions`; what has another shape is no option."""
    return tuple(_each(told)) if isinstance(told, Mapping) else ()


def _each(told: Mapping[str, Any]) -> Iterator[str]:
    in_full = {key.replace(_ALL_STORES, _STORES) for key in told if key.endswith(_ALL_STORES)}
    for key, value in told.items():
        if isinstance(value, list) and key.endswith(_ALL_STORES):
            yield from (f"{key.replace(_ALL_STORES, _STORES)}={one}" for one in value if isinstance(one, str))
        elif isinstance(value, Mapping) and isinstance(value.get("Executable"), str):
            yield f"{key}={value['Executable']}"  # a mount_program, told with its version
        elif isinstance(value, str) and key not in in_full:
            yield f"{key}={value}"


def spell(options: Sequence[str]) -> str:
    """Return the options as they stand in `containers-storage:[driver@root+runroot:options]`.

    They are separated by commas there, end at the first `]`, and cannot be quoted. A list of image stores is as good
    as one option for each. Another option with such a character, such as `mountopt=nodev,metacopy=on`, is left out: it
    says how layers are mounted, not where images are.
    """
    return ",".join(one for option in options for one in _split(option) if not _NOT_SPELLABLE & set(one))


def _split(option: str) -> Sequence[str]:
    key, _, value = option.partition("=")
    return [f"{key}={store}" for store in value.split(",")] if key.endswith(_STORES) else [option]
