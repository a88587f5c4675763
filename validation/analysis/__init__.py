"""What people read: selections, reports, status and charts."""
