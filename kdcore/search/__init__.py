"""Which small model to ship: a search under a bound on cost, and the tuning of each method's options."""
