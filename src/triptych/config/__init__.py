"""What a suite file can contain."""
