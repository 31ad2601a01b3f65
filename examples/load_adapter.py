"""A receiver of webhooks that has a running vLLM load each adapter that passed its gates, under the name `<dataset>-<run_id>`.

    TUNEMILL_WEBHOOK_SECRET=whsec_... python -m tunemill.examples.load_adapter 127.0.0.1:9000 http://127.0.0.1:8000

vLLM needs `--enable-lora` and `VLLM_ALLOW_RUNTIME_LORA_UPDATING=True`, and must see the files. Its documentation calls that setting
a risk in production, because whoever reaches the server may load anything: keep it on a network of its own.
"""

import base64
import hashlib
import hmac
import json
import os
import sys
import time
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx

LONGEST_S = 300  # that a delivery may be old: an older one was recorded, and is sent again by somebody else
LARGEST_BYTES = 2**20  # of a delivery, which has a few thousand


def key_of(secret: str) -> bytes:
    """The key that deliveries are signed with.

    Raises:
        ValueError: there is none in it: anybody could sign.
    """
    key = base64.b64decode(secret.removeprefix("whsec_"), validate=True)
    if not key:
        raise ValueError("the secret is empty")
    return key


def opened(secret: str, headers: Mapping[str, str], body: bytes, *, now_s: float) -> dict[str, Any] | None:
    """What a delivery says; None if it is not ours, or too old (https://www.standardwebhooks.com)."""
    event_id, at = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
    signed = base64.b64encode(hmac.digest(key_of(secret), f"{event_id}.{at}.".encode() + body, hashlib.sha256))
    known = any(
        hmac.compare_digest(b"v1," + signed, one.encode()) for one in headers.get("webhook-signature", "").split()
    )
    fresh = known and abs(now_s - int(at)) <= LONGEST_S  # what is signed is a number
    said: dict[str, Any] | None = json.loads(body) if known and fresh else None
    return said


def wanted(said: Mapping[str, Any]) -> dict[str, str] | None:
    """What vLLM is to load; None where the event is no adapter that passed its gates."""
    run = said["data"]
    if said["type"] != "runs.finished" or run["status"] != "succeeded" or run["method"] == "full":
        return None
    return {"lora_name": f"{run['name']}-{run['run_id']}", "lora_path": run["artefact_url"]}


class Receiver(BaseHTTPRequestHandler):
    """Answers 204 only when the adapter is loaded: until then the delivery is sent again."""

    secret, vllm = "", ""
    timeout = 30  # seconds without a byte

    def do_POST(self) -> None:  # http.server's name
        self.send_response(self._answer(self.headers.get("content-length", "")))
        self.end_headers()

    def _answer(self, length: str) -> int:
        if not (length.isascii() and length.isdigit()):
            return 411
        if len(length) > len(str(LARGEST_BYTES)) or int(length) > LARGEST_BYTES:
            return 413
        headers = {name.lower(): value for name, value in self.headers.items()}
        said = opened(self.secret, headers, self.rfile.read(int(length)), now_s=time.time())
        return 401 if said is None else self._load(wanted(said))

    def _load(self, adapter: Mapping[str, str] | None) -> int:
        if adapter is not None:
            try:
                httpx.post(f"{self.vllm}/v1/load_lora_adapter", json=adapter, timeout=LONGEST_S).raise_for_status()
            except httpx.HTTPError:  # vLLM is away or refused it
                return 502
        return 204


def main(listen: str, vllm: str) -> None:
    """Receive until interrupted."""
    Receiver.secret, Receiver.vllm = os.environ.get("TUNEMILL_WEBHOOK_SECRET", ""), vllm.rstrip("/")
    try:
        key_of(Receiver.secret)
    except ValueError as error:
        sys.exit(f"TUNEMILL_WEBHOOK_SECRET: {error}; set it to the secret that came with the webhook, whsec_...")
    host, port = listen.rsplit(":", 1)
    ThreadingHTTPServer((host, int(port)), Receiver).serve_forever()


if __name__ == "__main__":
    main(*sys.argv[1:])
