"""Compute a layer again from the one before it, by the streams' own functions, in place of the rows that are there."""
