"""What holds for every test: hypothesis takes the time that it needs, and the same examples in every run.

And SIGINT ends what a test starts, also where a script runs the tests in the background: its shell has that signal
ignored, and so would every child. What they leave when they are ended is ended too.
"""

import signal

import hypothesis

from tests import orphans

signal.signal(signal.SIGINT, signal.default_int_handler)
orphans.guard()

hypothesis.settings.register_profile(
    "podbridge",
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("podbridge")
