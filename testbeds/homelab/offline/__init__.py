"""The homelab's programs and images for a machine that can pull none: built from pinned modules and packages."""
