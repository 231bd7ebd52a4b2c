"""One package for each simulated venue."""
