"""Access to the object store: read streams, list objects, write objects conditionally, and convert errors."""
