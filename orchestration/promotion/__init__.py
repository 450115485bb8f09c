"""What a promotion is and when it may proceed: pure code without network, files or a clock of its own."""
