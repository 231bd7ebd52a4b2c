"""The proof that nothing was lost and nothing counted twice, on one consistent snapshot of a lake, without a JVM.

The proof is in the tables. ops/batches says which of their versions belong together, and is then compared with them.
Guarantee: `run.audit` calls a lake exact only if every statement was checked on that snapshot, even while streams
write.
Limit: rows that have not reached Gold yet are not in the snapshot; the report says how many there are.
"""
