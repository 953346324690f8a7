"""The control API: `/bridge/v1` on a unix socket, for the command line and for other programs."""
