"""What was typed, turned into calls of typed functions. Nothing is computed here."""
