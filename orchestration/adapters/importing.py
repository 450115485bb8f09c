"""Importing the clients' libraries by one thread at a time."""

from threading import RLock

importing = RLock()
"""Held while a library is imported that is imported when it is first needed, which may be in several threads at once.

Packages that are imported side by side meet in what both need, and Python resolves what would be a deadlock by handing
out modules that are not complete. MLflow's package cannot be imported again after that, so the whole process would be
without a registry.
"""
