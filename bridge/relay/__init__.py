"""The api socket: a relay to podman's own that answers for itself what concerns the registry."""
