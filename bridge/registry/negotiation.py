"""Whether a client wants a representation: `Accept` and `If-None-Match`. Pure."""

from bridge.registry.remembering import remembered


@remembered(512)
def accepts(accept: str, media_type: str) -> bool:
    """Say whether an `Accept` header (empty: none was sent) takes a manifest of `media_type`.

    The most specific range decides, and `q=0` excludes; `application/json` takes everything, for old clients:
    https://www.rfc-editor.org/rfc/rfc9110.html#section-12.5.1
    https://github.com/opencontainers/distribution-spec/blob/v1.1.1/content-negotiation.md
    """
    if not accept.strip(" ,"):
        return True
    kinds = (media_type.lower(), "application/json", "application/*", "*/*")
    elements = (element.strip() for element in accept.lower().split(","))
    wanted = dict(_weigh(element) for element in elements if element.startswith(kinds))
    for kind in kinds:
        if kind in wanted:
            return wanted[kind]
    return False


def _weigh(element: str) -> tuple[str, bool]:
    """Return a media range without its parameters, and whether its weight is above zero."""
    kind, *parameters = (part.strip() for part in element.split(";"))
    weights = [value for name, _, value in (part.partition("=") for part in parameters) if name.strip() == "q"]
    return kind, not weights or weights[0].strip().strip("0.") != ""


def matches(if_none_match: str, etag: str) -> bool:
    """Say whether an `If-None-Match` header names `etag`, by the weak comparison, or is `*`.

    https://www.rfc-editor.org/rfc/rfc9110.html#section-13.1.2
    """
    if if_none_match.strip() == "*":
        return True
    opaque = etag.removeprefix("W/")
    return any(item.strip().removeprefix("W/") == opaque for item in if_none_match.split(","))
