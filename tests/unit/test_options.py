"""What podman's `/info` tells of its storage driver's options, and how skopeo is told them."""

from typing import Any

import pytest

from bridge.podman import options

TOLD: dict[str, tuple[Any, str]] = {
    "none": ({}, ""),
    "an old podman's answer": (None, ""),
    "a list where a map was": (["overlay.imagestore=/a"], ""),
    "4.3.1, --storage-opt": ({"additionalimagestore": "/a"}, "additionalimagestore=/a"),
    "4.3.1, storage.conf": (
        {"overlay.imagestore": "/a", "overlay.mountopt": "nodev"},
        "overlay.imagestore=/a,overlay.mountopt=nodev",
    ),
    "5.8.6, --storage-opt twice": (
        {"additionaladditionalImageStores": ["/a", "/b"], "additionalimagestore": "/b"},
        "additionalimagestore=/a,additionalimagestore=/b",
    ),
    "5.8.6, storage.conf": (
        {"additionalImageStores": ["/a", "/b"], "imagestore": "/b", "overlay.mountopt": "nodev,metacopy=on"},
        "imagestore=/a,imagestore=/b",
    ),
    "5.8.6, both": (
        {"overlay.additionalImageStores": ["/a"], "overlay.imagestore": "/a", "imagestore": "/b"},
        "overlay.imagestore=/a,imagestore=/b",
    ),
    "a mount program": (
        {"overlay.mount_program": {"Executable": "/usr/bin/fuse-overlayfs", "Package": "x", "Version": "y"}},
        "overlay.mount_program=/usr/bin/fuse-overlayfs",
    ),
    "several stores in one option": (
        {"additionalimagestore": "/a,/b"},
        "additionalimagestore=/a,additionalimagestore=/b",
    ),
    "a colon and an equals sign": ({"overlay.imagestore": "/a:b=c"}, "overlay.imagestore=/a:b=c"),
    "a bracket": ({"overlay.imagestore": "/a[1]", "overlay.size": "1G"}, "overlay.size=1G"),
    "shapes that nothing has": ({"a": 1, "b": None, "c": {"Executable": 2}, "additionalImageStores": [1]}, ""),
}


@pytest.mark.parametrize("name", TOLD)
def test_skopeo_is_told_what_podman_told_as_far_as_its_grammar_goes(name: str) -> None:
    told, spelled = TOLD[name]
    assert options.spell(options.read(told)) == spelled
