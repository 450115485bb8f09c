"""The story of promotions, for both testbeds: it plays out, what it left behind is read, and a verifier judges it."""
