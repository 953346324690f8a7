"""The configuration: YAML into typed, checked values. Everything has a default.

A wrong file is refused with its name, the line and the key; nothing is guessed.
"""

import difflib
import math
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NoReturn

import msgspec
import yaml

from bridge.errors import ConfigError
from bridge.plan import NOT_KEPT, Keep
from bridge.policy import Rule
from bridge.units import Address, Bytes, Percent, Seconds, parse_keep


class PodmanConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which podman. Without `socket`: the user's own, or a service that podbridge starts."""

    socket: str | None = None
    command: Annotated[tuple[str, ...], msgspec.Meta(min_length=1)] = ("podman",)


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
    """Where the registry listens, and for whom."""

    listen: Address = Address("127.0.0.1:5000")
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
    """Where `podbridge status` and its like find the service."""

    socket: Path = Path()


class EncodingsConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Compressed copies of blobs, for slow wires.

    `space` is what all of them may take on the tree's disk, of which a tenth stays free in any case;
    0MB makes none. With `loopback` clients on this machine get them too: a proxy in front, for one.
    """

    space: Bytes = Bytes(20 * 10**9)
    loopback: bool = False


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
    encodings: EncodingsConfig = EncodingsConfig()
    publish: tuple[Rule, ...] = ()
    keep: Keep = NOT_KEPT
    max_withdraw: Percent = Percent(0.5)
    resync: Seconds = Seconds(300)
    grace: Seconds = Seconds(3600)


@dataclass(frozen=True, slots=True)
class Loaded:
    """The effective configuration, and for each dotted key where its value came from."""

    config: Config
    origins: Mapping[str, str]

    def values(self) -> Iterator[tuple[str, Any, str]]:
        """Yield (dotted key, value, origin) of every setting."""
        for key, value in _leaves(msgspec.to_builtins(self.config, enc_hook=_encode, str_keys=True), ""):
            yield key, value, self.origins.get(key, "default")


def default_file() -> Path:
    """Return where the configuration is looked for when nobody names a file."""
    if os.geteuid() == 0:
        return Path("/etc/podbridge/podbridge.yaml")
    return _xdg("XDG_CONFIG_HOME", ".config") / "podbridge" / "podbridge.yaml"


def default_podman_socket() -> Path:
    """Return the socket where this user's own podman service listens by default."""
    return _runtime("podman") / "podman.sock"


def runtime_dir() -> Path:
    """Return podbridge's directory for sockets: below `/run` for root, below `$XDG_RUNTIME_DIR` for a user."""
    return _runtime("podbridge")


def _runtime(program: str) -> Path:
    """Return the program's runtime directory; without a login session podman uses one in /tmp, and so do we."""
    user = os.geteuid()
    session = Path(os.environ.get("XDG_RUNTIME_DIR") or f"/run/user/{user}") if user else Path("/run")
    return session / program if session.is_dir() else Path(f"/tmp/{program}-run-{user}/{program}")  # noqa: S108


def _xdg(variable: str, fallback: str) -> Path:
    return Path(os.environ.get(variable) or Path.home() / fallback)


def _defaults() -> dict[str, Any]:
    root = os.geteuid() == 0
    tree = Path("/var/lib/podbridge") if root else _xdg("XDG_DATA_HOME", ".local/share") / "podbridge"
    return {"tree": str(tree), "control": {"socket": str(runtime_dir() / "control.sock")}}


def load(file: Path | None = None, flags: Mapping[str, str | None] | None = None) -> Loaded:
    """Read the configuration: defaults, then `file`, then `flags` (dotted key to value).

    Without `file` the default one is read if it exists. Raises ConfigError.
    """
    values, origins = _defaults(), dict[str, str]()
    path = file or default_file()
    lines: dict[str, int] = {}
    if file is not None or path.exists():
        document, lines = _read(path)
        _merge(values, document)
        origins |= {key: f"{path}:{lines.get(key, 1)}" for key, _ in _leaves(document, "")}
    for key, value in (flags or {}).items():
        if value is not None:
            _merge(values, _nest(key, value))
            origins[key] = "flag"
    try:
        config = msgspec.convert(values, Config, dec_hook=_decode, strict=True)
    except msgspec.ValidationError as error:
        _refuse(str(error), path if lines else None, lines)
    return Loaded(config, origins)


def _encode(value: object) -> object:
    if isinstance(value, Keep):
        return {0: False, math.inf: True}.get(value, str(Seconds(value)))
    return str(value)


def _decode(kind: type, value: object) -> object:
    if kind is Keep:
        return parse_keep(value)
    if kind in (Address, Bytes, Percent, Seconds):
        return kind.parse(value)
    if kind is Path and isinstance(value, str):
        return Path(value).expanduser()
    msg = f"Expected `{kind.__name__.lower()}`, got {value!r}"
    raise ValueError(msg)


def _read(path: Path) -> tuple[dict[str, Any], dict[str, int]]:
    lines: dict[str, int] = {"": 1}
    try:
        text = path.read_text(encoding="utf-8")
        root = yaml.compose(text, yaml.SafeLoader)
        if root is None:
            return {}, lines
        _collect_lines(root, "", path, lines)
        document = yaml.safe_load(text)
    except OSError as error:
        msg = f"{path}: {error.strerror}"
        raise ConfigError(msg) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}:{mark.line + 1}" if mark else str(path)
        msg = f"{where}: not YAML: {getattr(error, 'problem', None) or error}"
        raise ConfigError(msg) from error
    if not isinstance(document, dict):
        msg = f"{path}:1: expected a mapping of settings such as `tree: /srv/podbridge`"
        raise ConfigError(msg)
    return document, lines


def _collect_lines(node: yaml.Node, key: str, path: Path, lines: dict[str, int]) -> None:
    """Note the line of every key, and refuse a key that stands twice: YAML would drop the first."""
    if isinstance(node, yaml.MappingNode):
        for name, value in node.value:
            if not isinstance(name, yaml.ScalarNode) or name.tag != "tag:yaml.org,2002:str":
                msg = f"{path}:{name.start_mark.line + 1}: a key is a word, not {name.value!r}"
                raise ConfigError(msg)
            child = f"{key}.{name.value}" if key else str(name.value)
            line = name.start_mark.line + 1
            if child in lines:
                msg = f"{path}:{line}: key `{child}` stands twice, first in line {lines[child]}"
                raise ConfigError(msg)
            lines[child] = line
            _collect_lines(value, child, path, lines)
    elif isinstance(node, yaml.SequenceNode):
        for number, item in enumerate(node.value):
            lines[f"{key}[{number}]"] = item.start_mark.line + 1
            _collect_lines(item, f"{key}[{number}]", path, lines)


def _refuse(problem: str, path: Path | None, lines: Mapping[str, int]) -> NoReturn:
    text, _, where = problem.partition(" - at `$")
    key = where.rstrip("`").removeprefix(".")
    unknown = re.search(r"unknown field `(.+)`", text)
    if unknown:
        parent, key = key, f"{key}.{unknown[1]}".removeprefix(".")
        text = f"unknown key{_suggest(unknown[1], parent)}"
    while key not in lines and key:
        key = key.rpartition(".")[0]
    origin = f"{path}:{lines.get(key, 1)}: " if path and key in lines and key else ""
    full = where.rstrip("`").removeprefix(".") if not unknown else key
    msg = f"{origin}{full or key}: {text[:1].lower()}{text[1:]}"
    raise ConfigError(msg)


def _suggest(name: str, parent: str) -> str:
    kinds: dict[str, type[msgspec.Struct]] = {
        "": Config, "podman": PodmanConfig, "registry": RegistryConfig, "control": ControlConfig,
        "encodings": EncodingsConfig,
        "registry.auth": AuthConfig, "registry.tls": TlsConfig,
    }  # fmt: skip
    kind = Rule if parent.startswith("publish") else kinds.get(parent, Config)
    near = difflib.get_close_matches(name, kind.__struct_encode_fields__, 1)
    return f"; did you mean `{near[0]}`?" if near else f"; there are {', '.join(kind.__struct_encode_fields__)}"


def _merge(values: dict[str, Any], over: Mapping[str, Any]) -> None:
    for key, value in over.items():
        if isinstance(value, Mapping) and isinstance(values.get(key), dict):
            _merge(values[key], value)
        else:
            values[key] = value


def _nest(key: str, value: str) -> dict[str, Any]:
    first, _, rest = key.partition(".")
    return {first: _nest(rest, value) if rest else value}


def _leaves(value: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for name, item in value.items():
        key = f"{prefix}{name}"
        if isinstance(item, Mapping):
            yield from _leaves(item, f"{key}.")
        else:
            yield key, item
