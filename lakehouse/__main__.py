"""`python -m lakehouse …`: the command line by the interpreter that runs us; so the control room starts it."""

from lakehouse.cli import main

main()
