"""The lake without a JVM: its Delta tables, their logs and caches, and what the operations tables record."""
