"""Are the verdicts right? Faults planted in clips that are trusted, and what signals and rules say of them."""
