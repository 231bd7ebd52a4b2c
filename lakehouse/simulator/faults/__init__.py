"""Faults that the simulated exchange injects on demand or by a schedule."""
