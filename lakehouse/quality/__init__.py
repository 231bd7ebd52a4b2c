"""Checks over tables, read without a JVM: `checks.CHECKS` lists them, `checks.run_checks` records verdicts."""
