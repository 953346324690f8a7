"""From podman's store into the tree: exports, and the passes that decide on them."""
