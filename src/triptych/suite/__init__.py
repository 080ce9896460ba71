"""Many runs: which ones remain, in which child processes, under which lock."""
