"""Reading the configuration: YAML into typed, checked values.

A wrong file is refused with its name, the line and the key; nothing is guessed.
"""

import difflib
import math
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import msgspec
import yaml
from msgspec import inspect

from bridge.config.places import default_file, hook_directories, runtime_dir, xdg
from bridge.config.settings import Config
from bridge.errors import ConfigError
from bridge.plan import Keep
from bridge.units import Address, Bytes, Pattern, Percent, Seconds, parse_keep


@dataclass(frozen=True, slots=True)
class Loaded:
    """The effective configuration, and for each dotted key where its value came from."""

    config: Config
    origins: Mapping[str, str]

    def values(self) -> Iterator[tuple[str, Any, str]]:
        """Yield (dotted key, value, origin) of every setting."""
        for key, value in _leaves(msgspec.to_builtins(self.config, enc_hook=_encode, str_keys=True), ""):
            yield key, value, self.origins.get(key, "default")


def _defaults() -> dict[str, Any]:
    root = os.geteuid() == 0
    tree = Path("/var/lib/podbridge") if root else xdg("XDG_DATA_HOME", ".local/share") / "podbridge"
    return {
        "tree": str(tree),
        "control": {"socket": str(runtime_dir() / "control.sock")},
        "hooks": {"directories": [str(path) for path in hook_directories()]},
    }


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
            lines[key] = 0  # it stands in no line
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
    if kind in (Address, Bytes, Pattern, Percent, Seconds):
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
    line = lines.get(key, 1)
    origin = f"{path}:{line}: " if path and key in lines and key and line else ""
    full = where.rstrip("`").removeprefix(".") if not unknown else key
    msg = f"{origin}{full or key}: {text[:1].lower()}{text[1:]}"
    raise ConfigError(msg)


def _suggest(name: str, parent: str) -> str:
    fields = list(_fields(parent))
    near = difflib.get_close_matches(name, fields, 1)
    return f"; did you mean `{near[0]}`?" if near else f"; there are {', '.join(fields)}"


def _fields(path: str) -> Mapping[str, inspect.Type]:
    """Return the keys that there are below a dotted path such as `registry.tls` or `publish[2]`, with their types."""
    fields = _struct(inspect.type_info(Config))
    for step in filter(None, path.split(".")):
        fields = _struct(fields[step.partition("[")[0]])
    return fields


def _struct(kind: inspect.Type) -> Mapping[str, inspect.Type]:
    """Return the keys of a section, also of one that may be left out or that stands several times."""
    match kind:
        case inspect.StructType():
            return {field.encode_name: field.type for field in kind.fields}
        case inspect.VarTupleType():
            return _struct(kind.item_type)
        case inspect.UnionType():
            return next(filter(None, map(_struct, kind.types)), {})
        case _:
            return {}


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
