"""The double: a podman that holds races open and fails on demand.

It is a real HTTP server on a unix socket (`server`) and a real executable (`command`), both over one
state directory (`store`). Tests change that directory through `Double`, put faults into its queue
(`faults`), and hold things open with gates (`gates`). It passes the contract tests that podman passes.
"""
