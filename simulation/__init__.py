"""Chaos runs, the market simulation, and fakes of vendors. They are development tools, in no wheel and no image."""
