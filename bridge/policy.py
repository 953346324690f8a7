"""Which podman names are published, and as what. Pure: names and rules in, references out."""

import fnmatch
import re
import string
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from bridge.errors import InvalidError
from bridge.oci import Reference
from bridge.plan import Image, Target

_TEMPLATE_FIELD = re.compile(r"host|path|name|tag|id|label\[.+\]")
_NAME = re.compile(r"(?P<host>[^/]+)/(?P<path>[^@]+):(?P<tag>[^:/@]+)")


class Rule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One rule of `publish:`. Globs over the full podman name and over labels; `*` also matches `/`."""

    match: str | tuple[str, ...] = "*"
    label: Mapping[str, str] = {}
    as_: str | tuple[str, ...] = msgspec.field(default=(), name="as")
    skip: bool = False

    def __post_init__(self) -> None:
        if self.skip and self.as_:
            msg = "a rule has either `as` or `skip: true`, not both"
            raise ValueError(msg)
        for template in self.targets:
            _check_template(template)

    @property
    def patterns(self) -> tuple[str, ...]:
        """Return `match` as a tuple."""
        return (self.match,) if isinstance(self.match, str) else self.match

    @property
    def targets(self) -> tuple[str, ...]:
        """Return `as` as a tuple; empty means the default name."""
        return (self.as_,) if isinstance(self.as_, str) else self.as_


def _check_template(template: str) -> None:
    try:
        fields = [name for _, name, _, _ in string.Formatter().parse(template) if name is not None]
    except ValueError as error:
        msg = f"as: bad template {template!r}: {error}"
        raise ValueError(msg) from None
    for name in fields:
        if not _TEMPLATE_FIELD.fullmatch(name):
            msg = f"as: bad template {template!r}: no field {name!r}; there are host, path, name, tag, id, label[KEY]"
            raise ValueError(msg)
    if not any(name.startswith("label") for name in fields):  # a label can hold anything
        _try_template(template)


def _try_template(template: str) -> None:
    """Refuse a template that makes no reference of the plainest name."""
    parts = _NAME.fullmatch("host/name:tag")
    assert parts is not None  # noqa: S101
    try:
        _expand(template, parts, Image("0" * 64))
    except (InvalidError, ValueError) as error:
        msg = f"as: bad template {template!r}: it makes no NAME:TAG: {error}"
        raise ValueError(msg) from error


DEFAULT_RULE = Rule()


@dataclass(frozen=True, slots=True)
class Decision:
    """What the policy says of one podman name: `references`, or the `reason` why there is none."""

    name: str
    rule: str
    references: tuple[Reference, ...] = ()
    reason: str = ""
    refused: bool = False


@dataclass(frozen=True, slots=True)
class Conflict:
    """Two podman names that map to one reference; `winner` is published."""

    reference: Reference
    winner: str
    loser: str


@dataclass(frozen=True, slots=True)
class Wanted:
    """What should be published, and what the operator should know about the rest."""

    targets: Mapping[Reference, Target] = field(default_factory=dict)
    conflicts: tuple[Conflict, ...] = ()
    refused: tuple[Decision, ...] = ()


@dataclass(frozen=True, slots=True)
class Policy:
    """The rules of the configuration, in order, and behind them the default.

    `own` are the registry's own addresses (`127.0.0.1:5000`): a name under one of them was pulled
    from podbridge itself and is not published again.
    """

    rules: tuple[Rule, ...] = ()
    own: frozenset[str] = frozenset()

    def decide(self, name: str, image: Image) -> Decision:
        """Say what becomes of `name`: the first rule that matches decides."""
        parts = _NAME.fullmatch(name)
        if parts is None:
            return Decision(name, "default", reason="a name with a digest, or without a tag, is not published")
        if parts["host"] in self.own:
            return Decision(name, "default", reason="was pulled from this registry")
        number, rule = self._rule_for(name, image)
        told = f"rule {number}" if number else "default"
        if rule.skip:
            return Decision(name, told, reason=f"{told} skips it")
        try:
            references = tuple(_expand(template, parts, image) for template in rule.targets or (_default(parts),))
        except InvalidError as error:
            reason = f"{error}; a rule with match: {name!r} and as: can map it"
            return Decision(name, told, reason=reason, refused=True)
        return Decision(name, told, references)

    def _rule_for(self, name: str, image: Image) -> tuple[int, Rule]:
        for number, rule in enumerate(self.rules, 1):
            if _matches(rule, name, image):
                return number, rule
        return 0, DEFAULT_RULE

    def wanted(self, images: Iterable[Image]) -> Wanted:
        """Map every name of every image. Of two names for one reference the first in order wins."""
        targets: dict[Reference, Target] = {}
        conflicts: list[Conflict] = []
        refused: list[Decision] = []
        named = [(name, image) for image in images for name in image.names]
        for name, image in sorted(named, key=lambda item: (item[0], item[1].id)):
            decision = self.decide(name, image)
            if decision.refused:
                refused.append(decision)
            for reference in decision.references:
                winner = targets.setdefault(reference, Target(reference, image, name))
                if winner.name != name:
                    conflicts.append(Conflict(reference, winner.name, name))
        return Wanted(targets, tuple(conflicts), tuple(refused))


def _matches(rule: Rule, name: str, image: Image) -> bool:
    if not any(fnmatch.fnmatchcase(name, pattern) for pattern in rule.patterns):
        return False
    return all(
        key in image.labels and fnmatch.fnmatchcase(image.labels[key], pattern) for key, pattern in rule.label.items()
    )


def _default(parts: re.Match[str]) -> str:
    return "{path}:{tag}" if parts["host"] == "localhost" else "{host}/{path}:{tag}"


class _Template(string.Formatter):
    """`str.format` without attribute access: a template can name the known fields and a label, no more."""

    def get_field(self, field_name: str, args: Any, kwargs: Any) -> Any:
        return self.get_value(field_name, args, kwargs), field_name

    def get_value(self, key: int | str, args: Any, kwargs: Any) -> Any:
        label = re.fullmatch(r"label\[(.+)\]", str(key))
        if label is None:
            return super().get_value(key, args, kwargs)
        try:
            return kwargs["labels"][label[1]]
        except KeyError:
            msg = f"the image has no label {label[1]!r}, which the rule's template needs"
            raise InvalidError(msg) from None


def _expand(template: str, parts: re.Match[str], image: Image) -> Reference:
    text = _Template().vformat(
        template,
        (),
        {
            "host": parts["host"].replace(":", "_"),
            "path": parts["path"],
            "name": parts["path"].rpartition("/")[2],
            "tag": parts["tag"],
            "id": image.id,
            "labels": image.labels,
        },
    )
    return Reference.parse(text)
