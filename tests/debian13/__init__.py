"""podbridge with podman 5.4 and systemd 257, as Debian 13 has them: `tox -e debian13`."""
