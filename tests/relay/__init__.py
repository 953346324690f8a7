"""The api socket: the relay on raw upstreams of the tests' own and on the real podman, and with real clients."""
