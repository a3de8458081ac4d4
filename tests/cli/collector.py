"""A collector of spans: takes OTLP over HTTP, as any real one does, and keeps what it is sent."""

import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


@dataclass
class Sent:
    """A span as it came. ``links`` are (trace, span), ids in hex."""

    service: str
    name: str
    trace: str
    id: str
    parent: str
    links: set[tuple[str, str]]
    attributes: dict[str, Any]


@dataclass
class Collector:
    """Serves until it is closed."""

    spans: list[Sent] = field(default_factory=list)
    raw: bytes = b""

    def __post_init__(self) -> None:
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.path == "/v1/traces":
                    collector.take(body)
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def take(self, body: bytes) -> None:
        request = ExportTraceServiceRequest()
        request.ParseFromString(body)
        self.raw += body
        for resource in request.resource_spans:
            about = {each.key: each.value.string_value for each in resource.resource.attributes}
            for scope in resource.scope_spans:
                self.spans += [
                    Sent(
                        service=about["service.name"],
                        name=span.name,
                        trace=span.trace_id.hex(),
                        id=span.span_id.hex(),
                        parent=span.parent_span_id.hex(),
                        links={(link.trace_id.hex(), link.span_id.hex()) for link in span.links},
                        attributes={
                            each.key: getattr(each.value, each.value.WhichOneof("value")) for each in span.attributes
                        },
                    )
                    for span in scope.spans
                ]

    def named(self, name: str, **attributes: object) -> list[Sent]:
        """Spans of a name with these attributes, ``__`` for a dot."""
        wanted = {key.replace("__", "."): value for key, value in attributes.items()}
        return [span for span in list(self.spans) if span.name == name and wanted.items() <= span.attributes.items()]

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
