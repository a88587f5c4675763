"""Rented machines: finding, renting, watching, replacing and dismissing them."""
