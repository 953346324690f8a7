"""What holds for every test: hypothesis takes the time that it needs, and the same examples in every run."""

import hypothesis

hypothesis.settings.register_profile(
    "podbridge",
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("podbridge")
