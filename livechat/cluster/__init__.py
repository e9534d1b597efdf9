"""What nodes tell each other: the backplane."""
