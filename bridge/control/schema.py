"""The JSON documents of the control API. Times are in seconds since the epoch, sizes in bytes."""

import msgspec


class ConditionView(msgspec.Struct, rename="camel"):
    """One condition; `status` is null while nothing is known."""

    type: str
    status: bool | None
    reason: str
    message: str
    last_transition_time: float


class ExportView(msgspec.Struct, rename="camel"):
    """The export under way: layers and bytes written so far."""

    image: str
    names: list[str]
    layers_done: int
    layers: int
    written: int
    seconds: float


class PublicationView(msgspec.Struct, rename="camel", omit_defaults=True):
    """One reference: what it shows, or why it does not. `state` is Published, Pending, Failed or Held.

    `digest` is the one that is served, `podman_digest` the one that podman shows, `origins` are all that
    podman knows the image by. `fidelity` says how the first relates to the others, `reason` why. `keep`
    is null for good, and `gone` the time when the image left the store.
    """

    reference: str
    state: str
    name: str = ""
    image: str = ""
    digest: str = ""
    podman_digest: str = ""
    media_type: str = ""
    fidelity: str = ""
    reason: str = ""
    origins: list[str] = []
    size: int = 0
    published: float | None = None
    requested: bool = False
    keep: float | None = 0
    gone: float | None = None
    message: str = ""
    attempts: int = 0
    retry_at: float | None = None


class Status(msgspec.Struct, rename="camel"):
    """How the service is. `registry` is HOST:PORT, `scheme` how it is spoken to: http or https."""

    version: str
    pid: int
    started: float
    podman: str
    podman_socket: str
    tree: str
    registry: str
    conditions: list[ConditionView]
    counts: dict[str, int]
    last_look: float | None
    export: ExportView | None
    failures: list[PublicationView]
    scheme: str = "http"


class DecisionView(msgspec.Struct, rename="camel"):
    """What becomes of one podman name: its references with their states, or the reason why there are none.

    `trace` tells, rule by rule, how the policy came to that.
    """

    name: str
    reason: str
    trace: list[str]
    publications: list[PublicationView]


class Explanation(msgspec.Struct, rename="camel"):
    """Why an image is or is not published."""

    image: str
    digest: str
    decisions: list[DecisionView]
    message: str = ""


class PublishRequest(msgspec.Struct, forbid_unknown_fields=True, rename={"as_": "as"}):
    """Publish `image` (a name or an ID), under `as` where the rules should not decide."""

    image: str
    as_: str | None = None


class SweptView(msgspec.Struct, rename="camel"):
    """What a sweep removed, or would remove."""

    manifests: int
    blobs: int
    freed: int


class Problem(msgspec.Struct):
    """An error, in podman's shape and with a reason for programs."""

    cause: str
    message: str
    response: int
    reason: str
