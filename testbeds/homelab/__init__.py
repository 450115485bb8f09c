"""The homelab: two k3d clusters on one machine, with a real Argo CD, real pods and real images."""
