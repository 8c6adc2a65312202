#!/usr/bin/env python3
"""Sends the tracked objects of Frigate to liveobject, each one once and with its snapshot.

It subscribes to Frigate's topic `frigate/events`. It needs Python 3.9 or newer and paho-mqtt (Debian:
python3-paho-mqtt). See docs/sources.md. Every option can also be an environment variable, such as FRIGATE_URL for
--frigate-url. Secrets are environment variables: LIVEOBJECT_TOKEN and MQTT_PASSWORD, or LIVEOBJECT_TOKEN_FILE and
MQTT_PASSWORD_FILE with the name of a file.
"""

import argparse
import http.client
import json
import logging
import os
import re
import signal
import sys
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections import OrderedDict
from datetime import datetime
from pathlib import Path

import paho.mqtt.client as mqtt

from liveobject_source import MAX_PICTURE_BYTES, Source, SpoolFull, rfc3339, secret

log = logging.getLogger("frigate")

#: liveobject's general names for Frigate's labels. Other labels are passed on as they are.
GENERAL = {
    **dict.fromkeys(["car", "truck", "bus", "motorcycle", "bicycle", "school_bus", "boat"], "vehicle"),
    **dict.fromkeys(["dog", "cat", "bird", "horse", "deer", "fox", "raccoon", "squirrel", "rabbit", "bear"], "animal"),
}
#: The sub-labels with which Frigate names a carrier's logo.
CARRIERS = {"amazon": "Amazon", "an_post": "An Post", "canada_post": "Canada Post", "dhl": "DHL", "dpd": "DPD",
            "fedex": "FedEx", "gls": "GLS", "nzpost": "NZ Post", "postnl": "PostNL", "postnord": "PostNord",
            "purolator": "Purolator", "royal_mail": "Royal Mail", "ups": "UPS", "usps": "USPS"}

#: The number of recently sent objects that are remembered, to send each one only once.
MAX_REMEMBERED = 5_000
#: Seconds. Objects that were seen while this program did not run are requested from Frigate, back to this age.
CATCH_UP = 24 * 3600
#: Seconds. Objects that began this long before the last one are requested as well; those already sent are duplicates.
OVERLAP = 600
#: Seconds. Time that an event waits for its snapshot after it was received.
SNAPSHOT_WAIT = 4
#: Seconds. An object that was seen longer ago does not wait: if it has no snapshot yet, it gets none. Larger than the
#: usual difference between clocks.
OLD = 30
#: Seconds. After a request for a picture without a response, older events are sent without asking for theirs.
NO_RESPONSE_PAUSE = 30


def main():
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    options = parse_options()
    token = lambda: secret("LIVEOBJECT_TOKEN")  # noqa: E731 - read again for each event, so that it can be replaced
    if not token():
        sys.exit("LIVEOBJECT_TOKEN is missing. Create one with: liveobject token create frigate --scope events:write")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with Source(options.liveobject_url, token, options.spool, Snapshots().load) as source:
        try:
            Bridge(options, source).run()
        except KeyboardInterrupt:
            pass


def parse_options():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)

    def option(name, default, text, **more):
        default = os.environ.get(name[2:].replace("-", "_").upper(), default)
        parser.add_argument(name, default=default, help=f"{text} (default: {default!r})", **more)

    words = {"type": lambda text: set(filter(None, re.split(r"[,\s]+", text)))}
    option("--liveobject-url", "http://127.0.0.1:8080", "address of liveobject")
    option("--frigate-url", "http://127.0.0.1:5000",
           "address of Frigate's internal API; empty: no pictures and no missed events")
    option("--mqtt-host", "127.0.0.1", "broker that Frigate uses")
    option("--mqtt-port", "1883", "port of the broker", type=int)
    option("--mqtt-user", "", "user name at the broker")
    option("--mqtt-ca", "", "file with the broker's CA certificates; 'system': those of the system; empty: no TLS")
    option("--mqtt-client-id", "liveobject-frigate", "client id at the broker; its session survives restarts")
    option("--frigate-topic", "frigate", "Frigate's topic_prefix")
    option("--cameras", "", "only these cameras", **words)
    option("--labels", "", "only these labels, such as 'person,car'", **words)
    option("--zones", "", "only objects that have entered one of these zones", **words)
    option("--min-score", "0", "only objects with at least this score, 0 to 1", type=float)
    option("--spool", os.environ.get("STATE_DIRECTORY", "spool"), "directory for events that wait for liveobject")
    return parser.parse_args()


def wanted(thing, options):
    """Returns whether a tracked object passes the filters now."""
    return (
        not thing.get("false_positive")
        and (not options.cameras or thing["camera"] in options.cameras)
        and (not options.labels or thing["label"] in options.labels)
        and (not options.zones or not options.zones.isdisjoint(thing.get("entered_zones") or []))
        and score(thing) >= options.min_score
    )


def score(thing):
    return max(thing.get("top_score") or 0, thing.get("score") or 0)


def to_event(thing):
    """Returns liveobject's event for a tracked object."""
    label = thing["label"]
    sub_label = thing.get("sub_label")
    if isinstance(sub_label, list):  # The name and its score.
        sub_label = sub_label[0] if sub_label else None
    zones = [zone.replace("_", " ") for zone in thing.get("entered_zones") or []]
    carrier = CARRIERS.get(sub_label)
    description = label.replace("_", " ").capitalize()
    description += f" ({carrier or sub_label})" if sub_label else ""
    description += " detected"
    description += f" in {' and '.join(zones)}" if zones else ""
    event = {
        "event_id": f"frigate:{thing['id']}",
        "camera_id": re.sub(r"[^A-Za-z0-9_-]", "_", thing["camera"])[:128],
        "description": description,
        "objects_detected": list(dict.fromkeys([GENERAL.get(label, label), label])),
        "source_type": "frigate",
        "smart_detection_type": label,
        "timestamp": rfc3339(thing.get("frame_time") or thing["start_time"]),
    }
    if percent := round(100 * min(score(thing), 1)):
        event["confidence"] = percent
    if carrier:
        event.update(delivery_carrier=sub_label, delivery_carrier_display=carrier)
    return event


def from_api(item):
    """Returns an object of Frigate's list of events in the form that its messages have."""
    data = item.get("data") or {}
    return {**item, "entered_zones": item.get("zones"), "score": data.get("score"),
            "top_score": item.get("top_score") or data.get("top_score")}


class Snapshots:
    """Loads the pictures of objects. Events are sent in order, so no event may wait long for its picture."""

    def __init__(self):
        self.failed_at = None

    def load(self, record):
        """Returns the picture of an object: its snapshot, otherwise its thumbnail, otherwise None."""
        now, url = time.time(), record["picture_url"]
        wait = SNAPSHOT_WAIT - max(0, now - record.get("submitted", 0))
        if now - unix_time(record["event"]) > OLD:
            wait = 0
        if wait <= 0 and self.failed_at and time.monotonic() - self.failed_at < NO_RESPONSE_PAUSE:
            return None
        end = time.monotonic() + wait
        while True:
            for name in ("snapshot.jpg", "thumbnail.jpg"):
                try:
                    with urllib.request.urlopen(f"{url}/{name}", timeout=SNAPSHOT_WAIT) as response:
                        picture = response.read(MAX_PICTURE_BYTES + 1)
                    self.failed_at = None
                    if response.status == 200 and 0 < len(picture) <= MAX_PICTURE_BYTES:
                        return picture
                except urllib.error.HTTPError as error:
                    log.debug("%s: %s", error.url, error)
                except (OSError, ValueError, http.client.HTTPException) as error:
                    log.warning("Frigate does not return the picture %s/%s: %s", url, name, error)
                    self.failed_at = time.monotonic()
                    return None
            if time.monotonic() >= end:
                log.info("Frigate has no picture at %s", url)
                return None
            time.sleep(0.5)


def unix_time(event):
    """Returns the time of an event, in seconds."""
    return datetime.fromisoformat(event["timestamp"]).timestamp()


class Bridge:
    """The subscription, and what has been sent."""

    def __init__(self, options, source):
        self.options, self.source = options, source
        self.frigate = options.frigate_url.rstrip("/")
        self.sent = OrderedDict()
        self.lock = threading.Lock()
        self.catching_up = False
        # Contains the time up to which no object is missing.
        self.position_file = Path(options.spool) / "position"

    def run(self):
        """Runs until the process is stopped."""
        client = self.client()
        while True:
            client.connect_async(self.options.mqtt_host, self.options.mqtt_port, keepalive=30)
            try:
                client.loop_forever(retry_first_connection=True)
            except (SpoolFull, OSError) as error:  # The broker sends the message again after the next connection.
                log.error("cannot store an event: %s. Trying again in 30 s", error)
                client.disconnect()
                time.sleep(30)

    def client(self):
        # A message is acknowledged after `on_message` returns, when the event is in the spool. Until then, the broker
        # keeps it for this session.
        arguments = {"client_id": self.options.mqtt_client_id, "clean_session": False}
        if hasattr(mqtt, "CallbackAPIVersion"):
            arguments["callback_api_version"] = mqtt.CallbackAPIVersion.VERSION2
        client = mqtt.Client(**arguments)
        if self.options.mqtt_user:
            client.username_pw_set(self.options.mqtt_user, secret("MQTT_PASSWORD"))
        if self.options.mqtt_ca:
            client.tls_set(None if self.options.mqtt_ca == "system" else self.options.mqtt_ca)
        client.reconnect_delay_set(1, 30)
        client.on_connect = self.on_connect
        client.on_subscribe = self.on_subscribe
        client.on_disconnect = lambda *_: log.warning("disconnected from the broker")
        client.on_message = self.on_message
        return client

    def on_connect(self, client, _userdata, _flags, reason, *_properties):
        if reason != 0:
            log.error("%s:%s refuses the login: %s", self.options.mqtt_host, self.options.mqtt_port, reason)
            return
        topic = f"{self.options.frigate_topic}/events"
        log.info("connected to %s:%s; subscribing to %s", self.options.mqtt_host, self.options.mqtt_port, topic)
        client.subscribe(topic, qos=1)
        with self.lock:
            start = not self.catching_up and self.frigate and self.position()
            self.catching_up = self.catching_up or bool(start)
        if start:
            threading.Thread(target=self.catch_up, args=[start], name="catch-up", daemon=True).start()
        elif not self.position():
            self.set_position(time.time())

    def on_subscribe(self, _client, _userdata, _mid, codes, *_properties):
        if any(getattr(code, "value", code) >= 128 for code in codes):
            log.error("the broker refuses the subscription; allow this user to read %s/events",
                      self.options.frigate_topic)

    def on_message(self, _client, _userdata, message):
        try:
            thing = json.loads(message.payload)["after"]
            take = wanted(thing, self.options)
            event = to_event(thing) if take else None
            if event and not isinstance(thing["id"], str):
                raise TypeError("the id is not a text")
        except Exception as error:  # pylint: disable=broad-except - otherwise the broker would deliver it for ever.
            log.warning("ignored a message on %s that is not an event of Frigate: %r", message.topic, error)
            return
        if event:
            self.take(thing["id"], event)

    def take(self, key, event):
        """Submits an object's event, unless it has been submitted before."""
        with self.lock:
            if key in self.sent:
                return
            url = f"{self.frigate}/api/events/{urllib.parse.quote(key)}" if self.frigate else None
            self.source.submit(event, picture_url=url)
            log.info("%s: %s", event["camera_id"], event["description"])
            self.sent[key] = True
            if len(self.sent) > MAX_REMEMBERED:
                self.sent.popitem(last=False)
            if not self.catching_up:
                self.set_position(time.time())

    def catch_up(self, start):
        """Requests the objects that Frigate has seen since `start`, until it returns them.

        A broker keeps no messages for a session that is not connected if Frigate publishes with QoS 0, its default.
        """
        after = max(start - OVERLAP, time.time() - CATCH_UP)
        while True:
            try:
                after = self.request_page(after)
                if after is None:
                    break
            except Exception as error:  # Also if the spool is full.
                log.warning("cannot read the events of Frigate, trying again in 10 s: %r", error)
                time.sleep(10)
        with self.lock:
            self.catching_up = False
            self.set_position(time.time())

    def request_page(self, after, limit=500):
        """Takes the next objects after this time. Returns where the next page starts; None if there is none."""
        query = urllib.parse.urlencode({"after": after, "limit": limit, "sort": "date_asc", "include_thumbnails": 0})
        with urllib.request.urlopen(f"{self.frigate}/api/events?{query}", timeout=30) as response:
            items = json.load(response)
        things = [from_api(item) for item in items]
        for thing in things:
            if wanted(thing, self.options):
                self.take(thing["id"], to_event(thing))
        newest = max((thing["start_time"] for thing in things), default=after)
        return newest if len(things) >= limit and newest > after else None

    def position(self):
        try:
            return float(self.position_file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None

    def set_position(self, seconds):
        temporary = self.position_file.with_suffix(".tmp")
        temporary.write_text(f"{seconds:.3f}", encoding="utf-8")
        temporary.rename(self.position_file)


if __name__ == "__main__":
    main()
