"""What a person or a testbed does once, before Argo CD takes over: Secrets, registrations and accounts."""
