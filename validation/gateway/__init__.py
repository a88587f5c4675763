"""The gateway: the authorizing proxy through which rented boxes reach a self-hosted Prefect server.

The Prefect server has one password for all clients. nginx (deploy/gateway) terminates TLS and checks the token of each
box, the request rate per box and the route. The proxy behind nginx checks the bodies of requests: a box may change only
the flow runs that it took.
"""
