"""Every kind of image that podman can hold, and what other tools see of it."""
