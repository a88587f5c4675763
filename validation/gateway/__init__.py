"""The gateway: the authorizing proxy through which rented boxes reach a self-hosted Prefect server.

The server itself has one password for all clients. nginx (deploy/gateway) checks TLS, one token per box, a request rate
per box and the list of routes. The proxy behind it decides what depends on a request's body: a box may change only the
flow runs that it took.
"""
