"""The JSON documents of the control API. Times are in seconds since the epoch, sizes in bytes."""

from enum import StrEnum

import msgspec


class State(StrEnum):
    """What has become of a reference."""

    PENDING = "Pending"
    EXPORTING = "Exporting"
    PUBLISHED = "Published"
    DENIED = "Denied"
    FAILED = "Failed"
    HELD = "Held"
    WITHDRAWN = "Withdrawn"


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


class ScrubView(msgspec.Struct, rename="camel"):
    """The scrub, which reads every blob again. `begun` is null between two, `ended` is when the last one was through.

    `every` is in seconds; `blobs`, `read` and `damaged` count those of the one under way, or of the last one.
    """

    every: float
    begun: float | None
    ended: float
    blobs: int
    read: int
    total: int
    damaged: int


class PublicationView(msgspec.Struct, rename="camel", omit_defaults=True):
    """One reference: what it shows, or why it does not. What is left out is empty, 0 or false.

    `digest` is the one that is served, also while a later image is pending or has failed; `podmanDigest`
    that of podman's own manifest of `image`: the one that is served if it is podman's, or else the
    current one, over REST the one that podman shows; `origins` are all that podman knows it by. `fidelity` says
    how the first relates to the others, `reason` why, and `message` why the state is what it is. `keep`
    is how long a publication outlives its image, null for good; `gone` is when that left the store;
    `withdrawn` when the reference did, whose bytes stay for the grace period. `retryAt` is when a
    failure is tried again; one that is `permanent` is not, until the image changes.
    """

    reference: str
    state: State
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
    withdrawn: float | None = None
    message: str = ""
    attempts: int = 0
    retry_at: float | None = None
    permanent: bool = False
    layers_done: int = 0
    layers: int = 0
    written: int = 0


class PublicationList(msgspec.Struct):
    """Publications, by reference."""

    publications: list[PublicationView]


class DamageView(msgspec.Struct):
    """An image that podman has and cannot read: podman's words, and the cure. `image` is empty if podman names none."""

    image: str
    message: str


class Status(msgspec.Struct, rename="camel"):
    """How the service is. `registry` is HOST:PORT, `scheme` how it is spoken to: http or https.

    `sockets` are the addresses of its endpoints, by name. `damage` are the images that podman cannot read.
    """

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
    sockets: dict[str, str] = {}
    scheme: str = "http"
    damage: list[DamageView] = []
    scrub: ScrubView | None = None


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


class PublishRequest(
    msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True, rename={"as_": "as", "dry_run": "dryRun"}
):
    """Publish `image` (a name or an ID), under `as` where the rules should not decide.

    `force` takes a reference from the image that the rules give it to. `dryRun` only tells what would be.
    """

    image: str
    as_: str | None = None
    force: bool = False
    dry_run: bool = False


class PlanView(msgspec.Struct, rename="camel"):
    """What a pass would do now. `heldBack` is what it would not withdraw without `prune`: a mass withdrawal."""

    publish: list[PublicationView]
    withdraw: list[PublicationView]
    held_back: list[PublicationView]


class EventView(msgspec.Struct, rename="camel", omit_defaults=True):
    """One change of a reference. `action` is published, withdrawn, failed or denied.

    `digest` is what it shows now, and of a withdrawal what it showed last; `previous` what it showed
    before, where that was something else. `seconds` and `read` tell what the export took, in seconds and
    in bytes of layers. `message` says why it failed or was denied, `attempts` how often so far; what is
    `permanent` is not tried again until its image changes.
    """

    id: str
    time: float
    action: str
    reference: str
    name: str = ""
    image: str = ""
    digest: str = ""
    previous: str = ""
    fidelity: str = ""
    size: int = 0
    seconds: float = 0
    read: int = 0
    message: str = ""
    attempts: int = 0
    permanent: bool = False


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
