"""All that podbridge knows of podman: its REST service, its events, its store's doorbell, its commands."""
