"""`figueira serve`."""

import argparse

from router.cli.answer import Answer
from router.cli.parser import Menu, count, port
from router.cli.session import settings_of

ROLES = ("all", "web", "worker")


def add(menu: Menu) -> None:
    parser = menu.add("serve", "run the router until it is stopped", _serve)
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: loopback only)")
    parser.add_argument("--port", type=port, default=8080, help="default 8080; 0: any that is free")
    parser.add_argument("--workers", type=count, default=1, metavar="N", help="processes (default 1)")
    parser.add_argument(
        "--role", choices=ROLES, default="all", help="web: HTTP only; worker: the work only (default all)"
    )
    parser.add_argument(
        "--metrics-port",
        type=port,
        default=0,
        metavar="N",
        help="/health and /metrics of a worker (default 0: off)",
    )


def _serve(args: argparse.Namespace) -> Answer:
    settings = settings_of(args)
    from router.app.serve import serve

    code = serve(
        settings, host=args.host, port=args.port, role=args.role,
        workers=args.workers, metrics_port=args.metrics_port,
    )  # fmt: skip
    return Answer({"stopped": True, "exit": code}, code=code)
