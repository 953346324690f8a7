"""The registry's HTTP protocol over a tree made by hand, with no podman."""
