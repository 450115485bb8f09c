"""The sandbox's stand-in for Kubernetes and Argo CD: one HTTP server, and behind it the work of a cluster.

`docs/sandbox.md` lists what it plays and what it does not. `python -m testbeds.sandbox.cluster --help` starts one;
`testbeds.sandbox.cluster.handle.start_cluster` does so for tests.
"""
