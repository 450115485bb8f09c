"""What a promotion is and when it may go on: pure code, with no network, no files and no clock of its own."""
