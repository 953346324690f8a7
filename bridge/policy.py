"""Which podman names are published, and as what. Pure: names and rules in, references out."""

import fnmatch
import re
import string
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from bridge.errors import InvalidError, UnforeseenError
from bridge.fence import Fence
from bridge.oci import Reference
from bridge.plan import NOT_KEPT, Image, Keep, Plan, Shown, Target, make_plan

_TEMPLATE_FIELD = re.compile(r"host|path|name|tag|id|label\[.+\]")
_BEING_BUILT = re.compile(r"(?:docker\.io/library|localhost)/[0-9a-f]{64}-tmp:latest")
"""Given for a moment, by `podman build` too, and taken away when the image gets its own name (measured, 4.3.1)."""
_NAME = re.compile(r"(?P<host>[^/]+)/(?P<path>[^@]+):(?P<tag>[^:/@]+)")


OPT_OUT = "io.podbridge.publish"
"""Label of an image that says `false` where no rule should publish it."""
NAMED = "io.podbridge.as"
"""Label of an image with the references, separated by spaces, that it has where its rule names none."""


class Rule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One rule of `publish:`. Globs over the full podman name and over labels; `*` also matches `/`."""

    match: str | tuple[str, ...] = "*"
    exclude: str | tuple[str, ...] = ()
    label: Mapping[str, str] = {}
    as_: str | tuple[str, ...] = msgspec.field(default=(), name="as")
    skip: bool = False
    keep: Keep | None = None

    def __post_init__(self) -> None:
        if self.skip and self.as_:
            msg = "a rule has either `as` or `skip: true`, not both"
            raise ValueError(msg)
        for template in self.targets:
            _check_template(template)

    @property
    def targets(self) -> tuple[str, ...]:
        """Return `as` as a tuple; empty means the default name."""
        return _several(self.as_)

    def mismatch(self, name: str, labels: Mapping[str, str]) -> str:
        """Say why the rule does not match a name and its image's labels; nothing where it does."""
        if not any(fnmatch.fnmatchcase(name, pattern) for pattern in _several(self.match)):
            return f"match {' '.join(_several(self.match))} does not fit the name"
        for pattern in _several(self.exclude):
            if fnmatch.fnmatchcase(name, pattern):
                return f"exclude {pattern} fits the name"
        for key, pattern in self.label.items():
            if key not in labels:
                return f"the image has no label {key}"
            if not fnmatch.fnmatchcase(labels[key], pattern):
                return f"label {key}={labels[key]} is not {pattern}"
        return ""


def _several(value: str | tuple[str, ...]) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else value


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
    """What the policy says of one podman name: `references`, or the `reason` why there is none.

    `refused` says that the name should be published and cannot be. `trace` tells, rule by rule, how it
    came to that.
    """

    name: str
    references: tuple[Reference, ...] = ()
    reason: str = ""
    refused: bool = False
    keep: Keep = NOT_KEPT
    by_label: bool = False
    trace: tuple[str, ...] = ()


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
    from podbridge itself and is not published again. `keep` holds where a rule says nothing of it.
    """

    rules: tuple[Rule, ...] = ()
    own: frozenset[str] = frozenset()
    keep: Keep = NOT_KEPT
    _fence: Fence = field(default_factory=Fence, repr=False, compare=False)

    def decide(self, name: str, image: Image) -> Decision:
        """Say what becomes of `name`: the first rule that matches decides, then the image's labels."""
        try:
            with self._fence.around(f"the rules for {name}"):
                return self._decide(name, image)
        except UnforeseenError as error:
            return Decision(name, (), str(error), refused=True)

    def _decide(self, name: str, image: Image) -> Decision:
        parts = _NAME.fullmatch(name)
        if parts is None:
            return _left_out(name, "a name with a digest, or without a tag, is not published")
        if reason := self._objection(name, parts["host"], image):
            return _left_out(name, reason)
        number, rule, trace = self._rule_for(name, image)
        told = f"rule {number}" if number else "default"
        if rule.skip:
            return _left_out(name, f"{told} skips it", *trace)
        named = image.labels.get(NAMED, "").split()
        by_label = bool(named) and not rule.targets
        keep = self.keep if rule.keep is None else rule.keep
        try:
            if by_label:
                references = tuple(Reference.parse(text) for text in named)
            else:
                references = tuple(_expand(text, parts, image) for text in rule.targets or (_default(parts),))
        except InvalidError as error:
            reason = f"{error}; a rule with match: {name!r} and as: can map it"
            return Decision(name, (), reason, refused=True, trace=trace)
        how = f", named by label {NAMED}" if by_label else ""
        trace = (*trace, f"{told}: published as {', '.join(map(str, references))}{how}", *self._doubt(parts["host"]))
        return Decision(name, references, keep=keep, by_label=by_label, trace=trace)

    def _objection(self, name: str, host: str, image: Image) -> str:
        """Return why no rule is asked for a name; nothing where they are."""
        if _BEING_BUILT.fullmatch(name):
            return "is buildah's name for an image that it is still building"
        if host in self.own:
            return "was pulled from this registry"
        return f"its image says {OPT_OUT}=false" if image.labels.get(OPT_OUT) == "false" else ""

    def _doubt(self, host: str) -> tuple[str, ...]:
        """Say what to do about a name from a registry that has our port, and may be ours by a name of a name server."""
        if host.rpartition(":")[2] not in {address.rpartition(":")[2] for address in self.own}:
            return ()
        return (f"if {host} is this registry itself, a rule with match: '{host}/*' and skip: true leaves it out",)

    def _rule_for(self, name: str, image: Image) -> tuple[int, Rule, tuple[str, ...]]:
        trace: list[str] = []
        for number, rule in enumerate(self.rules, 1):
            mismatch = rule.mismatch(name, image.labels)
            if not mismatch:
                return number, rule, tuple(trace)
            trace.append(f"rule {number}: {mismatch}")
        return 0, DEFAULT_RULE, tuple(trace)

    def wanted(self, images: Iterable[Image]) -> Wanted:
        """Map every name of every image.

        Of two names for one reference, one that a rule or the default maps wins over one that only a
        label maps, and then the first in order.
        """
        targets: dict[Reference, Target] = {}
        conflicts: list[Conflict] = []
        named = [(self.decide(name, image), image) for image in images for name in image.names]
        named.sort(key=lambda item: (item[0].by_label, item[0].name, item[1].id))
        for decision, image in named:
            for reference in decision.references:
                target = Target(reference, image, decision.name, keep=decision.keep)
                winner = targets.setdefault(reference, target)
                if winner.name != decision.name:
                    conflicts.append(Conflict(reference, winner.name, decision.name))
        return Wanted(targets, tuple(conflicts), tuple(decision for decision, _ in named if decision.refused))

    def plan(self, images: Collection[Image], shown: Shown, now: float) -> Plan:
        """Decide what makes a tree that shows `shown` show these images. `now` is in seconds since the epoch."""
        return make_plan(self.wanted(images).targets, shown, images, now)


def _left_out(name: str, reason: str, *trace: str) -> Decision:
    return Decision(name, reason=reason, trace=trace)


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
