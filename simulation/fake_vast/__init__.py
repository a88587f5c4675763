"""A fake of Vast.ai: the vendor's API with a market, billing and failures, in virtual time."""
