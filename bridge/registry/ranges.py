"""The `Range` header against a size: which bytes, in which parts. Pure, and bounded whatever is asked.

https://www.rfc-editor.org/rfc/rfc9110.html#section-14
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

_SPEC = re.compile(r"(\d{0,18})-(\d{0,18})", re.ASCII)


@dataclass(frozen=True, slots=True)
class Span:
    """The bytes from `start` up to, not including, `stop`."""

    start: int
    stop: int

    def content_range(self, size: int) -> str:
        """Return the `Content-Range` of this part of `size` bytes."""
        return f"bytes {self.start}-{self.stop - 1}/{size}"

    def __len__(self) -> int:
        return self.stop - self.start


def select(header: str, size: int) -> tuple[Span, ...] | None:
    """Return the spans of `size` bytes that a `Range` header asks for; none where no range can be satisfied.

    None: the header is to be ignored, since its unit or its grammar is unknown, or there are no bytes.
    Spans that do not overlap come as they were asked for; others are sorted and joined. So the spans
    never hold more than `size` bytes, and each costs the client at least four bytes of header.
    """
    unit, _, specs = header.partition("=")
    if unit.strip().lower() != "bytes" or size == 0:
        return None
    spans: list[Span] = []
    for spec in filter(None, (part.strip() for part in specs.split(","))):
        match = _SPEC.fullmatch(spec)
        if match is None or not _is_valid(match[1], match[2]):
            return None
        spans.extend(_span(match[1], match[2], size))
    if not specs.strip(" \t,"):
        return None
    return tuple(_disjoint(spans))


def _is_valid(first: str, last: str) -> bool:
    if not first:
        return bool(last)
    return not last or int(first) <= int(last)


def _span(first: str, last: str, size: int) -> Iterator[Span]:
    """Yield the span, clipped to the size; nothing where it lies outside."""
    if not first:
        start, stop = max(0, size - int(last)), size
    else:
        start, stop = int(first), min(size, int(last) + 1) if last else size
    if start < stop:
        yield Span(start, stop)


def _disjoint(spans: list[Span]) -> list[Span]:
    ordered = sorted(spans, key=lambda span: span.start)
    if all(before.stop <= after.start for before, after in pairwise(ordered)):
        return spans
    joined = ordered[:1]
    for span in ordered[1:]:
        if span.start <= joined[-1].stop:
            joined[-1] = Span(joined[-1].start, max(joined[-1].stop, span.stop))
        else:
            joined.append(span)
    return joined
