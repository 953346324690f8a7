"""What can be configured: typed, checked, everything with a default."""

import os
import re
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import msgspec

from bridge import logs
from bridge.config.places import runtime_dir
from bridge.plan import NOT_KEPT, Keep
from bridge.policy import Rule
from bridge.units import Address, Bytes, Pattern, Percent, Seconds


class Export(StrEnum):
    """How images come out of podman."""

    AUTO = "auto"  # locally where `command` is the user's own podman or was set, over REST otherwise
    LOCAL = "local"  # `podman image save`: only new layers are read; it needs the store itself
    REST = "rest"  # over the socket: a whole copy each time; it needs nothing else


class PodmanConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which podman. Without `socket`: the user's own, or a service that podbridge starts."""

    socket: str | None = None
    command: Annotated[tuple[str, ...], msgspec.Meta(min_length=1)] = ("podman",)
    export: Export = Export.AUTO


class AuthConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Who may read what: globs over repository names, where `*` also matches `/`.

    Without `users`, everybody with a name reads everything; with it, only who stands there, only that.
    Without `anonymous`, nobody reads without a name, but where there is no way to have one everybody does.
    """

    htpasswd: Path | None = None
    users: dict[str, tuple[str, ...]] | None = None
    anonymous: tuple[str, ...] | None = None


class TlsConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """PEM files: the server's certificate with its chain, its key; who signs the ones that clients must have."""

    certificate: Path
    key: Path
    client_ca: Path | None = None


class RegistryConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where the registry listens, for whom, and in how many processes: by default one for each core.

    With `access_log` every request is a line in the log. `podbridge registry` on a socket of systemd's ends
    when nobody has asked it for `idle_exit`; the next request starts it again.
    """

    listen: Address = Address("127.0.0.1:5000")
    workers: Annotated[int, msgspec.Meta(ge=1, le=256)] = len(os.sched_getaffinity(0))
    access_log: bool = False
    idle_exit: Seconds | None = None
    auth: AuthConfig | None = None
    tls: TlsConfig | None = None

    def __post_init__(self) -> None:
        auth = self.auth or AuthConfig()
        certified = self.tls is not None and self.tls.client_ca is not None
        if auth.users is not None and auth.htpasswd is None and not certified:
            msg = "auth.users: nobody has a name without auth.htpasswd or tls.client_ca"
            raise ValueError(msg)
        if auth.anonymous is not None and auth.htpasswd is None and certified:
            msg = "auth.anonymous: with tls.client_ca every client has a name"
            raise ValueError(msg)

    @property
    def scheme(self) -> str:
        """Return how the address of the registry begins."""
        return "http" if self.tls is None else "https"


class ControlConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where `podbridge status` and its like find the service; the members of `group` may use it beside its owner."""

    socket: Path = Path()
    group: str | None = None


class MetricsConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where metrics and probes are served on TCP, open to whoever reaches it; the control socket has them always."""

    listen: Address | None = None


class Profile(StrEnum):
    """What the api socket lets its clients do, each including those before it."""

    READ = "read"
    PUBLISH = "publish"
    FULL = "full"


def _api_socket() -> Path:
    return runtime_dir() / "api.sock"


class ApiConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A socket that speaks podman's and docker's API, and publishes.

    The members of `group` may use it beside its owner; `floor` is the least version of docker's API that it announces.
    """

    socket: Path = msgspec.field(default_factory=_api_socket)
    group: str | None = None
    profile: Profile = Profile.READ
    floor: str | None = None

    def __post_init__(self) -> None:
        if self.floor is not None and not re.fullmatch(r"1\.(2[4-9]|3\d|4\d|5[0-2])", self.floor):
            msg = f"floor: expected a version of docker's API from 1.24 to 1.52, such as '1.44', got {self.floor!r}"
            raise ValueError(msg)


class EncodingsConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename={"except_": "except"}):
    """Compressed copies of blobs, for slow wires.

    `space` is what all of them may take on the tree's disk, of which a tenth stays free in any case;
    0MB makes none. With `loopback` clients on this machine get them too: a proxy in front, for one.
    A client never gets them if one of the regular expressions in `except` is found in its User-Agent.
    """

    space: Bytes = Bytes(20 * 10**9)
    loopback: bool = False
    except_: tuple[Pattern, ...] = ()

    def __post_init__(self) -> None:
        if len(self.except_) > _MOST_PATTERNS:
            msg = f"except: expected at most {_MOST_PATTERNS} regular expressions, got {len(self.except_)}"
            raise ValueError(msg)


_MOST_PATTERNS = 32


class ScrubConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Reading every blob of the tree again, at idle priority: disks lose bytes without saying so.

    A look at all of them begins so long after the last one, and reads at most `rate` a second; with `every: 0s` there
    is none.
    """

    every: Seconds = Seconds(30 * 86400)
    rate: Bytes = Bytes(20 * 10**6)


class HooksConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where hooks are looked for; the first directory wins."""

    directories: tuple[Path, ...] = ()


class LogConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the log says and how: `auto` is plain lines, and fields where the journal takes them."""

    format: logs.Format = "auto"
    level: logs.Level = "info"


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The whole configuration.

    `resync` is the longest time between two full looks; `grace` is how long superseded blobs stay for
    pulls under way; `keep` is whether a publication outlives its image; `max_withdraw` is the part of
    all publications beyond which one pass does not withdraw by itself.
    """

    podman: PodmanConfig = PodmanConfig()
    tree: Path = Path()
    registry: RegistryConfig = RegistryConfig()
    control: ControlConfig = ControlConfig()
    api: ApiConfig | None = None
    metrics: MetricsConfig = MetricsConfig()
    encodings: EncodingsConfig = EncodingsConfig()
    scrub: ScrubConfig = ScrubConfig()
    hooks: HooksConfig = HooksConfig()
    log: LogConfig = LogConfig()
    publish: tuple[Rule, ...] = ()
    keep: Keep = NOT_KEPT
    max_withdraw: Percent = Percent(0.5)
    resync: Seconds = Seconds(300)
    grace: Seconds = Seconds(3600)
