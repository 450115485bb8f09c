"""What a machine without Docker and without image registries needs: programs, images and a daemon, made here."""
