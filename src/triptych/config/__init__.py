"""What a suite file can say."""
