"""Hooks: which are found, how they are run, what the gates decide, what is told afterwards, and those in hooks/."""
