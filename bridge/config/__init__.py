"""The configuration: what can be set, where it is read from, and what holds when nobody says otherwise."""

from bridge.config.loading import Loaded, load
from bridge.config.places import default_file, default_podman_socket, runtime_dir, xdg
from bridge.config.settings import (
    AuthConfig,
    Config,
    ControlConfig,
    EncodingsConfig,
    Export,
    LogConfig,
    PodmanConfig,
    RegistryConfig,
    TlsConfig,
)

__all__ = [
    "AuthConfig",
    "Config",
    "ControlConfig",
    "EncodingsConfig",
    "Export",
    "Loaded",
    "LogConfig",
    "PodmanConfig",
    "RegistryConfig",
    "TlsConfig",
    "default_file",
    "default_podman_socket",
    "load",
    "runtime_dir",
    "xdg",
]
