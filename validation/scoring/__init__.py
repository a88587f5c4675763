"""What is derived from audio, text and the models' answers: pure functions, from samples to a verdict."""
