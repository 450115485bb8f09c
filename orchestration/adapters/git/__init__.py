"""The GitOps repository, through Git's own plumbing: `repository.py` implements the port, the rest are its parts."""
