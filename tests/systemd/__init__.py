"""podbridge on a real systemd: its units, its sockets, its two forms."""
