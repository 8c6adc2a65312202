#!/usr/bin/env python3
"""Receives the webhooks of UniFi Protect's Alarm Manager and sends each trigger to liveobject, with its picture.

It needs only Python 3.9 or newer. See docs/sources.md. Every option can also be an environment variable, such as
LISTEN for --listen. Secrets are environment variables: LIVEOBJECT_TOKEN, and WEBHOOK_SECRET, the path of the webhook's
address. With _FILE at the end, such as LIVEOBJECT_TOKEN_FILE, they name a file.
"""

import argparse
import base64
import hmac
import json
import logging
import os
import re
import signal
import sys
import threading
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from liveobject_source import Source, SpoolFull, rfc3339, secret

log = logging.getLogger("unifi-protect")

#: Maximum size of a request. A webhook with a picture has about 100 KB.
MAX_BODY = 4 << 20
#: Seconds. A sender that sends nothing for this long is disconnected.
TIMEOUT = 5
#: Seconds. A sender that needs longer for its whole request is disconnected.
DEADLINE = 20
#: Maximum number of requests at the same time. Further senders wait.
MAX_REQUESTS = 16

#: What Protect's triggers mean: the object that liveobject reports, and the beginning of the description.
TRIGGERS = {
    "person": ("person", "Person detected"),
    "vehicle": ("vehicle", "Vehicle detected"),
    "animal": ("animal", "Animal detected"),
    "package": ("package", "Package detected"),
    "face_known": ("person", "Known face detected"),
    "face_unknown": ("person", "Unknown face detected"),
    "license_plate_known": ("vehicle", "Known license plate detected"),
    "license_plate_unknown": ("vehicle", "Unknown license plate detected"),
    "ring": (None, "Doorbell rang"),
    "motion": ("motion", "Motion detected"),
}


def main():
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    options = parse_options()
    path = secret("WEBHOOK_SECRET")
    if not path or not re.fullmatch(r"[A-Za-z0-9_-]{16,}", path):
        sys.exit("WEBHOOK_SECRET must have at least 16 letters and digits, such as those of: openssl rand -hex 16")
    token = lambda: secret("LIVEOBJECT_TOKEN")  # noqa: E731 - read again for each event, so that it can be replaced
    if not token():
        sys.exit("LIVEOBJECT_TOKEN is missing. Create one with: liveobject token create protect --scope events:write")
    cameras = parse_cameras(options.camera or os.environ.get("CAMERA", "").split(","))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with Source(options.liveobject_url, token, options.spool) as source:
        host, port = options.listen.rsplit(":", 1)
        server = Server((host.strip("[]"), int(port)), Webhook)
        server.path, server.cameras, server.source = f"/{path}", cameras, source
        log.info("listening on %s:%s", *server.server_address[:2])
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            pass


def parse_options():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)

    def option(name, default, text):
        default = os.environ.get(name[2:].replace("-", "_").upper(), default)
        parser.add_argument(name, default=default, help=f"{text} (default: {default!r})")

    option("--liveobject-url", "http://127.0.0.1:8080", "address of liveobject")
    option("--listen", "0.0.0.0:8090", "address on which webhooks are received")
    option("--spool", os.environ.get("STATE_DIRECTORY", "spool"), "directory for events that wait for liveobject")
    parser.add_argument("--camera", action="append", metavar="MAC=ID[:NAME]",
                        help="camera_id and name of a camera, such as '74ACB9000001=front_door:Front Door'; repeatable")
    return parser.parse_args()


def parse_cameras(texts):
    """Returns `(camera_id, name)` per MAC address."""
    cameras = {}
    for text in filter(None, texts):
        match = re.fullmatch(r"\s*([0-9A-Fa-f:]+)=([A-Za-z0-9_-]{1,128})(?::(.+))?", text)
        if not match:
            sys.exit(f"--camera {text}: expected MAC=ID or MAC=ID:NAME")
        cameras[match[1].replace(":", "").upper()] = (match[2], match[3])
    return cameras


def to_events(body, cameras):
    """Returns liveobject's events for a webhook, one per trigger, and the picture of the first, if there is one."""
    alarm = body["alarm"]
    events = []
    for trigger in alarm.get("triggers") or []:
        key, device = str(trigger["key"]), str(trigger.get("device") or "unknown").replace(":", "").upper()
        milliseconds = trigger.get("timestamp") or body["timestamp"]
        # The same detection can trigger several alarms. It is the same event each time.
        event = trigger.get("eventId") or uuid.uuid5(uuid.NAMESPACE_OID, f"{device} {key} {milliseconds}")
        thing, description = TRIGGERS.get(key, (key, f"{key.replace('_', ' ').capitalize()} detected"))
        name = (trigger.get("group") or {}).get("name") or trigger.get("value")
        camera_id, camera_name = cameras.get(device, (f"protect_{device.lower()}", None))
        event = {
            "event_id": re.sub(r"[^A-Za-z0-9_.:-]", "_", f"protect:{event}:{key}")[:128],
            "camera_id": re.sub(r"[^A-Za-z0-9_-]", "_", camera_id)[:128],
            "description": description + (f" ({name})" if name else ""),
            "objects_detected": [thing] if thing else [],
            "source_type": "protect",
            "smart_detection_type": key,
            "timestamp": rfc3339(milliseconds / 1000),
        }
        if camera_name:
            event["camera_name"] = camera_name
        if key == "ring":
            event["is_doorbell_ring"] = True
        events.append(event)
    return events, decode_picture(alarm.get("thumbnail"))


def decode_picture(text):
    """Returns the picture of a `data:` URL."""
    if not text:
        return None
    try:
        return base64.b64decode(text.rsplit(",", 1)[-1], validate=True)
    except ValueError:
        return None


class Server(ThreadingHTTPServer):
    """A server in which slow senders do not delay others."""

    daemon_threads = True
    places = threading.BoundedSemaphore(MAX_REQUESTS)

    def process_request(self, request, client_address):
        self.places.acquire()
        super().process_request(request, client_address)

    def process_request_thread(self, request, client_address):
        deadline = threading.Timer(DEADLINE, self.shutdown_request, [request])
        deadline.start()
        try:
            super().process_request_thread(request, client_address)
        finally:
            deadline.cancel()
            self.places.release()


class Webhook(BaseHTTPRequestHandler):
    timeout = TIMEOUT
    server_version, sys_version = "liveobject-protect", ""

    def do_POST(self):
        if not hmac.compare_digest(self.path.encode(), self.server.path.encode()):
            return self.reply(404, "unknown path")
        length = self.headers.get("Content-Length", "")
        if not length.isdigit() or int(length) > MAX_BODY:
            return self.reply(413, f"at most {MAX_BODY} bytes, with a Content-Length")
        try:
            events, picture = to_events(json.loads(self.rfile.read(int(length))), self.server.cameras)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            log.warning("ignored a webhook that is not one of the Alarm Manager: %r", error)
            return self.reply(400, "not a webhook of the Alarm Manager")
        try:
            for event in events:
                self.server.source.submit(event, picture)
                log.info("%s: %s", event["camera_id"], event["description"])
                picture = None
        except (SpoolFull, OSError) as error:
            log.error("cannot store an event: %s", error)
            return self.reply(503, "cannot store the event")
        return self.reply(200, "ok")

    def do_GET(self):
        self.reply(405, "choose POST as the method of the webhook")

    def reply(self, status, text):
        self.send_response(status)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_):
        """Keeps the path, which is a secret, out of the log."""


if __name__ == "__main__":
    main()
