"""Temporary object-store credentials of boxes, issued from one R2 token."""
