"""What the registry does without being asked: follow its own change log."""
