"""A world with the podman double for each test that asks for one."""

from tests.faults.conftest import world

__all__ = ["world"]
