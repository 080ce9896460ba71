"""Faults that Triptych must survive, one module per kind; `scripts/torture_faults.py` tries them and counts outcomes.

A kind prepares once what its cases need, and then tries numbered cases, each drawn from a seed and its number. Commands
run in forked children of this process, which has already imported everything: a case takes only the time of its work, a
crash is detected, and a command that exceeds its time limit counts as hung.
"""
