"""Access to the object store: stream, read, list, write, replace and delete objects.

Errors of the client library are converted to errors of this project.
"""
