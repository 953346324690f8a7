"""The registry: OCI distribution v1.1, read only, over a tree. Needs no podman and no publisher."""
