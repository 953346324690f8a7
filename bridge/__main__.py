"""`python -m bridge` is `podbridge`."""

from bridge.cli import main

main()
