"""From samples, texts and the models' answers to signals, and from signals to a verdict: pure functions."""
