"""The GitOps repository, through Git's own plumbing. In the order of reading:

- `repository.py` implements the port, with the parts below.
- `fence.py`: leases, and pushes that only the owner of a lease can make. `lease.py` is a lease as a Git object, and
  `push.py` one atomic push and what its answer means.
- `access.py`: reading from the mirror or from the server, and repairing the mirror. `history.py` finds incumbent's
  commits, and `objects.py` reads and writes files, commits and tags.
- `mirror.py`: the bare repository on this machine, and how Git is run in it. `remote.py` is the server's side: its
  address, token and errors.
"""
