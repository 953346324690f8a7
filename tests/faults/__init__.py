"""What the service does under races and faults: the state of the world, never calls."""
