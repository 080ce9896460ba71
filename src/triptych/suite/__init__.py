"""Many runs: which are left, in which processes, under which lock."""
