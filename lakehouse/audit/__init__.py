"""The proof that nothing was lost and nothing counted twice, on one consistent snapshot of a lake, without a JVM.

The tables are the proof; ops/batches tells which of their versions belong together, and is then held against them.
Guarantee: `run.audit` calls a lake exact only where every statement was checked on that snapshot, also while streams
write. Gap: what has not reached Gold yet is not in the snapshot; the report says how much that is.
"""
