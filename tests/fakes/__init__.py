"""In-memory fakes of the ports, to be scripted by tests; where a fake has rules, it meets the real one's contract."""
