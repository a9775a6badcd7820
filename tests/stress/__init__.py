"""Stress: runs that are killed, outputs that are damaged, command lines that are wrong; thousands of each.

    python -m tests.stress kills --count 1000      # over all methods; each ends in the bytes of a run that nobody killed
    python -m tests.stress damage --count 5000     # one file of a folder of outputs is damaged, then any command runs
    python -m tests.stress commands --count 4000   # command lines that are wrong, and some that are odd

Each prints the cases that went wrong as lines of JSON, then a line of counts, and ends with 1 if there is any. `--seed` chooses
other cases, `--methods` the methods to kill. The tests run a small sample (tests/test_stress.py).
"""
