"""What is done once by hand, or by a testbed, before Argo CD keeps the rest: secrets, and what knows whom."""
