"""The door through which rented boxes reach a self-hosted Prefect server, which itself knows one password for all.

nginx (deploy/gateway) holds TLS, a token a box, a rate a box and the list of routes. What depends on a request's body
is decided by the inspector behind it: a box may move and describe the flow runs that it took, and no others.
"""
