"""The story of promotions, for either testbed: it is told, what it left behind is read, and a verifier judges it."""
