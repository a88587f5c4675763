"""A fake of Vast.ai: the vendor's API with a market, money and failures, in virtual time."""
