"""A Vast.ai of our own: the vendor's API with a market, money, bad machines and bad connections, in virtual time."""
