"""The routes of the vendor's API. Each route has a method, a pattern, the kind of its rate limit, and a handler."""

from collections.abc import Callable
from typing import TypeAlias

from simulation.fake_vast import listing, market_api, rental_api
from simulation.fake_vast.transport import Reply, Request
from simulation.fake_vast.vendor import Vendor

Handler: TypeAlias = Callable[[Vendor, Request, int], Reply]
"""Answers a request. The number is the id in the request's path, or 0 if the path has no id."""

ROUTES: tuple[tuple[str, str, str, Handler], ...] = (
    ("POST", r"/api/v0/bundles/", "search", market_api.search_offers),
    ("PUT", r"/api/v0/search/asks/", "search", market_api.search_asks),
    ("PUT", r"/api/v0/asks/(\d+)/", "create", rental_api.create),
    ("POST", r"/api/v0/asks/bulk/", "create", rental_api.create_many),
    ("GET", r"/api/v1/instances/", "list", listing.list_page),
    ("GET", r"/api/v0/instances/", "list", listing.refuse_old_listing),
    ("GET", r"/api/v0/instances/filters/", "show", listing.list_filters),
    ("GET", r"/api/v0/instances/(\d+)/", "show", listing.show_one),
    ("PUT", r"/api/v0/instances/(\d+)/", "update", rental_api.update),
    ("DELETE", r"/api/v0/instances/(\d+)/", "destroy", rental_api.destroy),
    ("PUT", r"/api/v0/instances/", "update", rental_api.update_many),
    ("DELETE", r"/api/v0/instances/", "destroy", rental_api.destroy_many),
    ("PUT", r"/api/v0/instances/bid_price/(\d+)/", "bid", rental_api.change_bid),
    ("PUT", r"/api/v0/instances/(?:reboot|recycle)/(\d+)/", "update", rental_api.reboot),
    ("PUT", r"/api/v0/instances/request_logs/(\d+)/", "update", listing.request_logs),
    ("GET", r"/logs/(\d+)/", "open", listing.read_logs),
    ("GET", r"/api/v0/users/current/", "account", market_api.read_account),
    ("GET", r"/api/v0/gpu_names/unique/", "open", market_api.list_gpu_names),
    ("GET", r"/api/v0/metrics/gpu/current/", "metrics", market_api.read_metrics),
)
