"""`vfleet gateway`: the authorizing proxy between boxes and a self-hosted Prefect server."""

import argparse
import os
from pathlib import Path

from validation.cli import Subparsers

TOKENS = Path("/var/lib/vfleet/boxes")


def add_gateway_commands(subparsers: Subparsers) -> None:
    gateway = subparsers.add_parser("gateway", help="the proxy between boxes and a self-hosted Prefect server")
    commands = gateway.add_subparsers(title="commands", required=True)
    _add_token_commands(commands)

    config = commands.add_parser("config", help="write nginx's configuration")
    config.add_argument("--server-name", required=True, help="the name by which boxes reach this server")
    config.add_argument("--certificate", required=True, help="TLS certificate with its chain, PEM")
    config.add_argument("--certificate-key", required=True, help="its private key, PEM")
    config.add_argument("--listen", default="443", help="address and port (default: 443)")
    _add_tokens_option(config)
    _add_back_options(config)
    config.add_argument(
        "--out", type=Path, required=True, help="the file to write, such as /etc/nginx/conf.d/vfleet.conf"
    )
    config.set_defaults(command=write_config)

    serve = commands.add_parser("serve", help="check the requests that nginx forwards; runs until it is stopped")
    _add_tokens_option(serve)
    _add_back_options(serve)
    serve.set_defaults(command=run_proxy)


def _add_token_commands(commands: Subparsers) -> None:
    token = commands.add_parser("token", help="the tokens of boxes: add, revoke, list")
    actions = token.add_subparsers(title="commands", required=True)
    add = actions.add_parser("add", help="give a box a new token, and print the variable for its environment")
    add.add_argument("box", help="its WORKER_ID")
    add.set_defaults(command=add_token)
    revoke = actions.add_parser("revoke", help="remove a box's token; its next request is refused")
    revoke.add_argument("box", help="its WORKER_ID")
    revoke.set_defaults(command=revoke_token)
    listing = actions.add_parser("list", help="show the boxes that have a token")
    listing.set_defaults(command=list_tokens)
    for parser in (add, revoke, listing):
        _add_tokens_option(parser)


def _add_tokens_option(parser: argparse.ArgumentParser) -> None:
    default = Path(os.environ.get("VFLEET_GATEWAY_TOKENS") or TOKENS)
    parser.add_argument("--tokens", type=Path, default=default, help=f"the token file (default: {default})")


def _add_back_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--server", default="127.0.0.1:4200", help="Prefect's server (default: 127.0.0.1:4200)")
    parser.add_argument("--proxy", default="127.0.0.1:4280", help="address of the proxy (default: 127.0.0.1:4280)")
    parser.add_argument("--pool", default="vast-gpu", help="the boxes' work pool (default: vast-gpu)")


def add_token(options: argparse.Namespace) -> None:
    from validation.gateway.tokens import TokenFile, headers_for

    print(f"PREFECT_CLIENT_CUSTOM_HEADERS={headers_for(options.box, TokenFile(options.tokens).add(options.box))}")


def revoke_token(options: argparse.Namespace) -> None:
    from validation.gateway.tokens import TokenFile

    TokenFile(options.tokens).revoke(options.box)
    print(f"{options.box} has no token any more")


def list_tokens(options: argparse.Namespace) -> None:
    from validation.gateway.tokens import TokenFile

    for box in TokenFile(options.tokens).read():
        print(box)


def write_config(options: argparse.Namespace) -> None:
    from validation.gateway.config import Gateway

    gateway = Gateway(
        server_name=options.server_name,
        certificate=options.certificate,
        certificate_key=options.certificate_key,
        tokens=str(options.tokens.absolute()),
        listen=options.listen,
        server=options.server,
        proxy=options.proxy,
        pool=options.pool,
    )
    gateway.write(options.out, os.environ.get("PREFECT_SERVER_API_AUTH_STRING", ""))
    print(f"{options.out} written; `nginx -t && nginx -s reload` activates it")


def run_proxy(options: argparse.Namespace) -> None:
    from validation.gateway.serve import serve_proxy

    serve_proxy(
        options.proxy,
        server_url=f"http://{options.server}",
        auth_string=os.environ.get("PREFECT_SERVER_API_AUTH_STRING", ""),
        tokens=options.tokens,
        pool=options.pool,
    )
