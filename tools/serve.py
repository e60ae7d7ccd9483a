"""Serve the built site on this machine, compressed as a web host would.

A file opened in a browser works too; a server adds excerpts to the search.
"""

import argparse
import functools
import gzip
import http.server
import io
import sys
import threading
import webbrowser
from contextlib import contextmanager
from pathlib import Path

SITE = Path(__file__).resolve().parent.parent / "_build" / "html"
TEXT = (".html", ".css", ".js", ".json", ".svg", ".txt", ".inv", ".map")


class Handler(http.server.SimpleHTTPRequestHandler):
    """Files as they are, text compressed for those who accept it, one line per request left out."""

    def send_head(self):
        path = Path(self.translate_path(self.path))
        path = path / "index.html" if path.is_dir() and self.path.split("?")[0].endswith("/") else path
        accepts = "gzip" in self.headers.get("Accept-Encoding", "")
        if not (accepts and path.suffix in TEXT and path.is_file()):
            return super().send_head()
        body = compressed(path, path.stat().st_mtime_ns)
        self.send_response(200)
        self.send_header("Content-Type", self.guess_type(str(path)))
        self.send_header("Content-Encoding", "gzip")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        return io.BytesIO(body)

    def end_headers(self):
        # A rebuilt page is seen at the next load.
        self.send_header("Cache-Control", "no-cache")
        super().end_headers()

    def log_message(self, *arguments):
        pass


@functools.lru_cache(maxsize=256)
def compressed(path: Path, changed: int) -> bytes:
    """The compressed file; `changed` makes a changed file a new one."""
    return gzip.compress(path.read_bytes(), 6, mtime=0)


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request, client_address):
        # A browser that leaves before a file is sent is no error of ours.
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


def make_server(site: Path, first_port: int = 8000) -> Server:
    """A server on the first free port from `first_port` on; 0 asks the system for one."""
    handler = functools.partial(Handler, directory=str(site))
    for port in range(first_port, first_port + 100):
        try:
            return Server(("127.0.0.1", port), handler)
        except OSError:
            continue
    raise OSError(f"No free port between {first_port} and {first_port + 99}.")


def address_of(server: Server) -> str:
    return f"http://127.0.0.1:{server.server_address[1]}/"


@contextmanager
def serving(site: Path, first_port: int = 0):
    """Serve `site` from a thread for as long as the block lasts; gives the address."""
    with make_server(site, first_port) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield address_of(server)
        finally:
            server.shutdown()
            thread.join()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--open", action="store_true", help="open the site in a browser")
    parser.add_argument("--port", type=int, default=8000, help="the first port to try")
    options = parser.parse_args()
    if not (SITE / "index.html").is_file():
        sys.exit("There is no site yet. Build it with: make book")
    with make_server(SITE, options.port) as server:
        print(f"The site is at {address_of(server)} (Ctrl-C ends)", flush=True)
        if options.open:
            webbrowser.open(address_of(server))
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            print()


if __name__ == "__main__":
    main()
