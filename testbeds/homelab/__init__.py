"""The homelab on one machine: two k3d clusters with a real Argo CD, real pods and real images."""
