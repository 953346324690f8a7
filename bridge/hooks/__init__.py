"""All that is known of hooks: where they lie, which are trusted, what they are given, how they are run."""
