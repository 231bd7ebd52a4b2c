"""`python -m lakehouse …`: the command `lakehouse` in the interpreter that is running; `local_stack` starts it so."""

from lakehouse.cli import main

main()
