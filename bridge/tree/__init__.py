"""The tree on disk: the contract between the publisher, which writes it, and whatever serves it.

    <tree>/
      podbridge.json                the format's version
      blobs/sha256/<hex>            every blob once, verified, 0644, never changed
      encoded/                      gzip copies of blobs for HTTP; may be removed at any time
      scrub/                        how far the scrub is; may be removed at any time
      repositories/_catalog.json    derived: the names of all repositories
      repositories/<name>/
        _oci/                       a standard OCI image layout
          oci-layout
          index.json                the truth of the repository
          blobs/sha256/<hex>        hard links to blobs/; copies where a link cannot be made
        _tags.json, _manifests/, _references/
                                    derived from index.json for plain web servers, as in views.py
      staging/<random>/             exports and writes under way; a sweep removes what is not in use
      lock                          flock of the one publisher, with its pid

No component of a repository's name begins with `_`, so nothing above can collide with a name.
"""
