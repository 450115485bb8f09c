"""The homelab testbed: two k3d clusters with a real Argo CD, and images made here where none can be pulled."""
