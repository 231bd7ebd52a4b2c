"""A layer computed anew from the one before it, by the same functions as the streams, in place of what is there."""
