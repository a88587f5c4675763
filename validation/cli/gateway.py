"""`vfleet gateway`: run and configure the authorizing proxy between boxes and a self-hosted Prefect server."""

import os
from pathlib import Path
from typing import Annotated, TypeAlias

import typer

from validation.cli import JsonOption
from validation.output import print_json, say

PANEL = "Set up and check"
DEFAULT_TOKENS = Path("/var/lib/vfleet/boxes")
"""The token file, unless VFLEET_GATEWAY_TOKENS names another."""

gateway_app = typer.Typer(no_args_is_help=True)
token_app = typer.Typer(no_args_is_help=True)


def _default_token_file() -> Path:
    return Path(os.environ.get("VFLEET_GATEWAY_TOKENS") or DEFAULT_TOKENS)


TokensOption: TypeAlias = Annotated[
    Path,
    typer.Option(
        "--tokens",
        default_factory=_default_token_file,
        show_default=f"VFLEET_GATEWAY_TOKENS, else {DEFAULT_TOKENS}",
        help="The token file, which nginx reads.",
    ),
]
ServerOption: TypeAlias = Annotated[str, typer.Option("--server", help="Address of the Prefect server.")]
ProxyOption: TypeAlias = Annotated[str, typer.Option("--proxy", help="Address of `vfleet gateway serve`.")]
PoolOption: TypeAlias = Annotated[str, typer.Option("--pool", help="The boxes' work pool.")]
BoxArgument: TypeAlias = Annotated[str, typer.Argument(help="The WORKER_ID of the box.")]


def add_commands(app: typer.Typer) -> None:
    app.add_typer(
        gateway_app,
        name="gateway",
        rich_help_panel=PANEL,
        help="The proxy through which boxes reach a self-hosted Prefect server.",
    )
    gateway_app.add_typer(token_app, name="token", help="The boxes that may pass: add, revoke, list.")


@token_app.command(name="add")
def add_token(box: BoxArgument, tokens: TokensOption) -> None:
    """Let a box pass the gateway, and print the variable that its environment needs. An earlier token of the box ends.

    Example: `vfleet gateway token add home-1`
    """
    from validation.gateway.tokens import TokenFile, headers_for

    print(f"PREFECT_CLIENT_CUSTOM_HEADERS={headers_for(box, TokenFile(tokens).add(box))}")


@token_app.command(name="revoke")
def revoke_token(box: BoxArgument, tokens: TokensOption) -> None:
    """Refuse a box from its next request on.

    Example: `vfleet gateway token revoke home-1`
    """
    from validation.gateway.tokens import TokenFile

    TokenFile(tokens).revoke(box)
    say(f"{box} is refused from its next request on")


@token_app.command(name="list")
def list_tokens(tokens: TokensOption, json: JsonOption = False) -> None:
    """List the boxes that may pass the gateway."""
    from validation.gateway.tokens import TokenFile

    for box in TokenFile(tokens).read():
        if json:
            print_json({"worker_id": box})
        else:
            say(box)


@gateway_app.command(name="config")
def write_config(
    server_name: Annotated[str, typer.Option(help="The host name under which boxes reach this server.")],
    certificate: Annotated[str, typer.Option(metavar="PEM", help="TLS certificate with its chain.")],
    certificate_key: Annotated[str, typer.Option(metavar="PEM", help="Private key of the certificate.")],
    out: Annotated[Path, typer.Option(help="File to write, such as /etc/nginx/conf.d/vfleet.conf.")],
    tokens: TokensOption,
    listen: Annotated[str, typer.Option(help="Address and port of nginx.")] = "443",
    server: ServerOption = "127.0.0.1:4200",
    proxy: ProxyOption = "127.0.0.1:4280",
    pool: PoolOption = "vast-gpu",
) -> None:
    """Write the nginx configuration of the gateway.

    Example: `vfleet gateway config --server-name prefect.example.org --certificate fullchain.pem --certificate-key
    privkey.pem --out /etc/nginx/conf.d/vfleet.conf`
    """
    from validation.gateway.config import NginxSettings

    gateway = NginxSettings(
        server_name=server_name,
        certificate=certificate,
        certificate_key=certificate_key,
        tokens=str(tokens.absolute()),
        listen=listen,
        server=server,
        proxy=proxy,
        pool=pool,
    )
    gateway.write(out, os.environ.get("PREFECT_SERVER_API_AUTH_STRING", ""))
    say(f"{out} written; `nginx -t && nginx -s reload` applies it")


@gateway_app.command()
def serve(
    tokens: TokensOption,
    server: ServerOption = "127.0.0.1:4200",
    proxy: ProxyOption = "127.0.0.1:4280",
    pool: PoolOption = "vast-gpu",
) -> None:
    """Run the authorizing proxy behind nginx, until it is stopped."""
    from validation.gateway.proxy import serve_proxy

    serve_proxy(
        proxy,
        server_url=f"http://{server}",
        auth_string=os.environ.get("PREFECT_SERVER_API_AUTH_STRING", ""),
        tokens=tokens,
        pool=pool,
    )
