"""The address of a database for a login that a test created."""

from sqlalchemy import make_url

PASSWORD = "of-no-use"


def login_url(url: str, name: str) -> str:
    return make_url(url).set(username=name, password=PASSWORD).render_as_string(hide_password=False)
