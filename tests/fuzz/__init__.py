"""Fuzzing what podbridge reads of others: some seconds in every run, as long as wanted by `tox -e fuzz`."""
