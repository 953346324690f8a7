"""podbridge: every image in a podman store, pullable from a read-only OCI registry."""

__version__ = "0.1.0"
