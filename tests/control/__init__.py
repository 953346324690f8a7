"""The control API over a podman double: what it shows, what it does, and what it does when things go wrong."""
