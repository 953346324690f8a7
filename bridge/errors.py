"""The exceptions that podbridge raises, each caught by somebody.

BridgeError                 caught by the command line: one line, exit code 1
├── ConfigError             a setting is wrong or missing: exit code 78
├── InvalidError            a text is no valid digest, repository, tag, reference or manifest
├── PodmanError             podman, or its service, answered with an error
│   ├── UnreachableError    nobody answers on podman's socket: try again with backoff
│   ├── BadAnswerError      what podman answered is too long, or not as expected
│   └── ImageUnknownError   the image is not, or no longer, in the store
├── ExportError             what podman wrote is not whole, or not what it should be
│   └── UnsupportedError    an image that cannot be served as it is: not tried again until it changes
├── HookError               a gate asks for a later try, or a hook cannot be used
│   └── DeniedError         a gate denies a publication
├── TreeError               the tree cannot be read or written
│   ├── DamagedError        a blob's bytes are not those that its digest names
│   ├── UndecidedError      a damaged index is kept, and so is every blob, until an operator decides
│   ├── LockedError         another publisher works on this tree
│   └── NotPublishedError   nothing of that name, tag or digest is published
├── ControlError            the running service refused what was asked, or none runs
│   ├── ForgottenError      what happened since then is not known any more: begin anew
│   ├── NotReadyError       the first pass is not through yet
│   └── BusyError           too much of it is under way: try again soon
├── ListenError             an address cannot be listened on
└── UnforeseenError         podbridge itself is at fault: the failure of one thing, made by bridge/fence.py
"""

from bridge.untrusted_text import one_line


class BridgeError(Exception):
    """Anything that podbridge itself says has gone wrong; its text is for the operator."""


class ConfigError(BridgeError):
    """A setting is wrong or missing; the text names the file, the line and the key."""


class InvalidError(BridgeError):
    """A text is not the value it claims to be."""


class PodmanError(BridgeError):
    """Podman, or its service, answered with an error; the text carries podman's own words."""


class UnreachableError(PodmanError):
    """Nobody answers on podman's socket."""


class BadAnswerError(PodmanError):
    """Podman's answer is too long, or not what it should be."""


class ImageUnknownError(PodmanError):
    """The image is not in podman's store (any more)."""


class ExportError(BridgeError):
    """An export is not whole, or not the image that was asked for. Nothing of it was published."""


class UnsupportedError(ExportError):
    """An image that cannot be served whatever is tried: the failure is final until the image changes."""


class HookError(BridgeError):
    """A gate asks for a later try, or a hook is not fit to be run."""


class DeniedError(HookError):
    """A gate denies a publication; `hook` is its name."""

    def __init__(self, hook: str, reason: str) -> None:
        super().__init__(f"denied by {hook}: {reason}")
        self.hook = hook


class TreeError(BridgeError):
    """The tree cannot be read or written."""


class DamagedError(TreeError):
    """The bytes of a blob are not those that its digest, in `digest`, names: they are never served."""

    def __init__(self, digest: str) -> None:
        super().__init__(f"the bytes of blob {digest} are damaged")
        self.digest = digest


class UndecidedError(TreeError):
    """A damaged index is kept, and every blob that it may reference, until an operator decides about it."""


class LockedError(TreeError):
    """Another publisher holds the lock of this tree."""


class NotPublishedError(TreeError):
    """Nothing of that name, tag or digest is in the tree."""


class ControlError(BridgeError):
    """The running service refused a request, or no service runs."""


class ForgottenError(ControlError):
    """What happened since a moment is not known any more."""


class NotReadyError(ControlError):
    """The service has not finished its first pass."""


class BusyError(ControlError):
    """As much as may be of what a request needs is under way; nothing of it was done."""


class ListenError(BridgeError):
    """An address cannot be listened on."""


class UnforeseenError(BridgeError):
    """What no code foresaw, as the failure of one thing; `what` is the exception in one line."""

    def __init__(self, error: BaseException) -> None:
        said = one_line(str(error), 300)
        self.what = f"{type(error).__name__}: {said}" if said else type(error).__name__
        super().__init__(f"podbridge failed unexpectedly ({self.what}); its log has the traceback, please report it")
