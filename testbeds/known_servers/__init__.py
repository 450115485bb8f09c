"""Model servers that people run, as images for the sandbox: each with a Dockerfile and an environment of its own."""
