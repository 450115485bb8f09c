"""What `make bench` measures: each row against a control of the same run, so that a busy machine slows down both."""
