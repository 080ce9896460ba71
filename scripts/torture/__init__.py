"""Faults that Triptych must survive, a module for each kind; `scripts/torture_faults.py` tries them and counts the
outcomes.

A kind prepares what its cases need once, and then tries numbered cases, each drawn from a seed and its number. Commands
run in forked children of this process, which has imported everything already: a case takes the time of its work, a
crash is seen, and what does not end within its time counts as hung.
"""
