"""The real podman, buildah and skopeo against `podbridge serve`, from a build to a pull."""
