"""How fast podbridge is, measured beside what people use today, on the real podman.

From the top of the checkout, with podbridge installed in the Python that runs them:

    python -m tests.benchmarks.fleet      # publishing 20 images, against push, skopeo and save; peak memory
    python -m tests.benchmarks.latency    # from the end of a tag or a build to the first successful pull

Each prints the machine and a table, writes the figures with `--json FILE`, and exits with 1 when a floor is
missed. `--quick` is a tiny run that judges nothing: it shows that the benchmark works.
"""
