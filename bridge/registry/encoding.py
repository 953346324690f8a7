"""Whether a client takes a blob in an HTTP content coding: `Accept-Encoding`. Pure.

https://www.rfc-editor.org/rfc/rfc9110.html#section-12.5.3
"""

import re

from bridge.registry.remembering import remembered

GZIP = "gzip"
IDENTITY = "identity"

_ALIASES = {"x-gzip": GZIP}
_WEIGHT = re.compile(r"0(\.\d{0,3})?|1(\.0{0,3})?", re.ASCII)


@remembered(512)
def choose(accept: str, offered: str) -> str:
    """Return `offered`, a content coding, or `identity`: whichever an `Accept-Encoding` header wants more.

    Of two that are wanted alike the coding is chosen. A client that says nothing (an empty header)
    gets the identity, and so does one that refuses both: it can check the digest, which is more than
    an error would give it. What is no weight counts as 0, and of a coding that is named twice the lower
    weight counts: a doubtful header never brings a coding that the client cannot read.
    """
    weights: dict[str, float] = {}
    for coding, weight in map(_weigh, filter(None, (element.strip() for element in accept.lower().split(",")))):
        weights[coding] = min(weight, weights.get(coding, 1.0))
    others = weights.get("*", 0.0)
    wanted = weights.get(offered, others)
    return offered if wanted and wanted >= weights.get(IDENTITY, others) else IDENTITY


def _weigh(element: str) -> tuple[str, float]:
    """Return a coding and its weight between 0 and 1."""
    coding, *parameters = (part.strip(" \t") for part in element.split(";"))
    coding = _ALIASES.get(coding, coding)
    if not parameters:
        return coding, 1.0
    name, _, weight = parameters[0].partition("=")
    valid = len(parameters) == 1 and name == "q" and _WEIGHT.fullmatch(weight)
    return coding, float(weight) if valid else 0.0
