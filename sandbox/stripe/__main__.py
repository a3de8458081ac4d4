"""`python -m sandbox.stripe`: prints `ready http://HOST:PORT` once it serves; SIGINT and SIGTERM end it."""

import argparse
import logging
import os
import signal
import socket
import sys
from pathlib import Path

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from sandbox.stripe.app import App
from sandbox.stripe.world import World


class Protocol(HttpToolsProtocol):
    """Lets the application cut a connection, as a payment provider's outage does."""

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["extensions"] = {"transport.abort": self.transport.abort}  # type: ignore[dict-item]


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m sandbox.stripe", description="A stand-in for Stripe.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--data-dir", type=Path, help="without it, everything is forgotten at the end")
    parser.add_argument("--secret-key", default="sk_test_standin")
    parser.add_argument("--publishable-key", help="the secret key with pk_ for sk_, where it is not given")
    parser.add_argument("--webhook-url")
    parser.add_argument("--webhook-secret", default="whsec_standin")
    parser.add_argument("--webhook-event", action="append", metavar="TYPE", help="what is sent; without it, all")
    parser.add_argument("--seed", type=int, help="for what goes wrong on request")
    parser.add_argument("--parent", type=int, metavar="PID", help="end when this process, our parent, has")
    return parser.parse_args()


class Server(uvicorn.Server):
    """Says when it serves, and ends with its parent."""

    def __init__(self, config: uvicorn.Config, parent: int | None) -> None:
        super().__init__(config)
        self._parent = parent

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        if self.started and sockets:
            host, port = sockets[0].getsockname()[:2]
            sys.stdout.write(f"ready http://{host}:{port}\n")
            sys.stdout.flush()

    async def on_tick(self, counter: int) -> bool:
        """Ten times a second. A poll, for PDEATHSIG follows the parent's thread, and exists on Linux only."""
        if self._parent is not None and os.getppid() != self._parent:
            self.force_exit = True
            return True
        return await super().on_tick(counter)


def main() -> int:
    args = arguments()
    try:
        listener = socket.create_server((args.host, args.port), backlog=1024)
        world = World.open(args.data_dir, seed=args.seed)
        world.outbox.aim(args.webhook_url, args.webhook_secret, args.webhook_event)
    except (OSError, ValueError) as error:
        sys.stderr.write(f"sandbox.stripe: {error}\n")
        return 1
    publishable = args.publishable_key or args.secret_key.replace("sk_", "pk_", 1)
    logging.basicConfig(level=logging.WARNING)
    config = uvicorn.Config(
        App(world, args.secret_key, publishable),
        http=Protocol,
        loop="uvloop",
        ws="none",
        lifespan="on",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        log_level="warning",
        timeout_keep_alive=75,
        timeout_graceful_shutdown=2,
    )
    # uvicorn raises the signal that ended it once more: it is an ordinary end.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    signal.signal(signal.SIGINT, lambda *_: sys.exit(0))
    Server(config, args.parent).run(sockets=[listener])
    return 0


if __name__ == "__main__":
    sys.exit(main())
