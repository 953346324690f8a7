"""What podbridge relies on of podman, tested on podman and on the double alike."""
