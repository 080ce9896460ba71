"""Run a suite: which runs remain, in which child processes, under which lock."""
