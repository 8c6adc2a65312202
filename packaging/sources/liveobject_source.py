"""Submits events to liveobject, and keeps them on disk until it has accepted them. Needs only Python 3.9 or newer.

    with Source("http://127.0.0.1:8080", token="…", spool="spool") as source:
        source.submit({"camera_id": "front_door", "description": "Person at the door"}, picture=jpeg)

`submit` returns as soon as the event is on disk. A thread sends the events in order, and repeats each one with the
same `event_id` until liveobject has accepted it. After a restart, it continues with the events that are left.
"""

import base64
import fcntl
import json
import logging
import os
import threading
import time
import urllib.error
import urllib.request
import uuid
from datetime import datetime, timezone
from pathlib import Path

log = logging.getLogger("liveobject")

#: Limits of the events on disk. Above MAX_EVENTS, `submit` raises `SpoolFull`. Above MAX_BYTES, it drops the picture.
MAX_EVENTS = 10_000
MAX_BYTES = 1 << 30
#: liveobject accepts no larger picture, so `submit` drops it.
MAX_PICTURE_BYTES = 2 << 20
#: The number of refused events that are kept for inspection. The oldest are removed.
MAX_REFUSED = 100

#: Seconds. A request that takes longer counts as failed.
TIMEOUT = 15
#: Seconds between two attempts, unless the response has a `Retry-After`.
FIRST_PAUSE, LONGEST_PAUSE = 1, 60


class SpoolFull(Exception):
    """liveobject has accepted nothing for a long time, and no more events can be kept."""


def rfc3339(seconds):
    """Returns a Unix time as text."""
    return datetime.fromtimestamp(seconds, timezone.utc).isoformat()


def secret(name):
    """Returns an environment variable, or the contents of the file that `NAME_FILE` names; None if neither is set."""
    if path := os.environ.get(name + "_FILE"):
        return Path(path).read_text(encoding="utf-8").strip()
    return os.environ.get(name)


class Spool:
    """A directory with one file per event. A file appears only when it is complete and on disk."""

    def __init__(self, directory):
        self.directory = Path(directory)
        self.refused = self.directory / "refused"
        self.refused.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._lock_file = open(self.directory / "lock", "w", encoding="utf-8")
        try:
            fcntl.flock(self._lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise SystemExit(f"{directory} is in use by another process. Give each source its own directory.") from None
        for incomplete in self.directory.glob("*.tmp"):
            incomplete.unlink()
        files = [file for file in self.directory.glob("*.json") if file.stem.isdigit()]
        files.sort(key=lambda file: int(file.stem))
        self._files = [(file.name, file.stat().st_size) for file in files]
        self._next = 1 + (int(files[-1].stem) if files else 0)
        self._lock = threading.Lock()

    def close(self):
        self._lock_file.close()

    def __len__(self):
        return len(self._files)

    def put(self, record):
        """Writes an event to disk."""
        with self._lock:
            if len(self._files) >= MAX_EVENTS:
                raise SpoolFull(f"{MAX_EVENTS} events in {self.directory} are waiting for liveobject")
            if "thumbnail" in record["event"] and sum(size for _, size in self._files) > MAX_BYTES:
                del record["event"]["thumbnail"]
            data = json.dumps(record).encode()
            name = f"{self._next:020}.json"
            temporary = self.directory / "new.tmp"
            with open(temporary, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            temporary.rename(self.directory / name)
            self._sync()
            self._next += 1
            self._files.append((name, len(data)))

    def oldest(self):
        """Returns the name of the oldest event, or None."""
        with self._lock:
            return self._files[0][0] if self._files else None

    def read(self, name):
        """Returns an event."""
        return json.loads((self.directory / name).read_bytes())

    def remove(self, name):
        """Removes the oldest event, which liveobject has accepted."""
        with self._lock:
            (self.directory / name).unlink(missing_ok=True)
            self._files.pop(0)

    def refuse(self, name):
        """Sets the oldest event aside: liveobject will never accept it."""
        with self._lock:
            if (self.directory / name).exists():
                (self.directory / name).rename(self.refused / name)
            self._files.pop(0)
            for old in sorted(self.refused.glob("*.json"))[:-MAX_REFUSED]:
                old.unlink()

    def _sync(self):
        descriptor = os.open(self.directory, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


class Source:
    """Sends events to the liveobject service at `url`.

    `token` is a token with the scope `events:write`, or a function that returns it. `spool` is a directory that only
    this source uses. `load_picture` is called when an event that has a `picture_url` is sent for the first time, and
    returns the picture, or None. It gets a dictionary with the `event`, the `picture_url`, and the time in seconds at
    which it was `submitted`. Events are sent in order, so it delays all later ones.
    """

    def __init__(self, url, token, spool, load_picture=None):
        self.url = url.rstrip("/") + "/api/v1/events"
        self._token = token if callable(token) else lambda: token
        self._load_picture = load_picture
        self._loaded = (None, None)
        self._spool = Spool(spool)
        self._changed = threading.Condition()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="liveobject", daemon=True)
        self._thread.start()

    def __enter__(self):
        return self

    def __exit__(self, *_exception):
        self.close()

    def submit(self, event, picture=None, picture_url=None):
        """Writes an event to disk, to be sent. Returns its id."""
        event = {"event_id": str(uuid.uuid4()), "timestamp": rfc3339(time.time()), **event}
        if picture and len(picture) <= MAX_PICTURE_BYTES:
            event["thumbnail"] = base64.b64encode(picture).decode()
        self._spool.put({"event": event, "picture_url": picture_url, "submitted": time.time()})
        with self._changed:
            self._changed.notify_all()
        return event["event_id"]

    def wait(self, seconds):
        """Waits until liveobject has accepted all events, or this time has passed. Returns whether it has."""
        with self._changed:
            return self._changed.wait_for(lambda: not len(self._spool), seconds)

    def close(self, seconds=10):
        """Waits like `wait`, then stops. Events that are left are sent after the next start."""
        self.wait(seconds)
        self._stop.set()
        with self._changed:
            self._changed.notify_all()
        self._thread.join(TIMEOUT)
        if left := len(self._spool):
            log.warning("%d events are not sent yet and stay in %s", left, self._spool.directory)
        self._spool.close()

    def _run(self):
        failures = 0
        while not self._stop.is_set():
            with self._changed:
                self._changed.wait_for(lambda: len(self._spool) or self._stop.is_set())
            try:
                pause = self._send_oldest(failures)
            except Exception:  # Nothing may end this thread, or events would wait until the next start.
                log.exception("an event cannot be sent")
                pause = LONGEST_PAUSE
            failures = 0 if pause is None else failures + 1
            with self._changed:
                self._changed.notify_all()
            if pause:
                self._stop.wait(pause)

    def _send_oldest(self, failures):
        """Sends the oldest event. Returns the number of seconds to wait before the next attempt, or None."""
        name = self._spool.oldest()
        if name is None:
            return None
        try:
            record = self._spool.read(name)
            event = record["event"]
            has_picture_url = bool(record.get("picture_url"))
        except (FileNotFoundError, ValueError, TypeError, KeyError, AttributeError) as error:
            self._spool.refuse(name)
            log.error("the event in %s cannot be read and is not sent: %r", name, error)
            return None
        if has_picture_url and (picture := self._picture(name, record)):
            event["thumbnail"] = base64.b64encode(picture).decode()
        accepted, reason, pause = self._post(event)
        if not accepted and pause is None and event.pop("thumbnail", None):
            log.warning("liveobject refuses the picture of event %s: %s", event.get("event_id"), reason)
            accepted, reason, pause = self._post(event)
        if pause is not None:
            pause = max(pause, min(FIRST_PAUSE << min(failures, 6), LONGEST_PAUSE))
            if failures in (0, 10) or failures % 100 == 0:
                log.warning("liveobject has not accepted the event: %s. %d events wait; next attempt in %g s",
                            reason, len(self._spool), pause)
            return pause
        if accepted:
            self._spool.remove(name)
        else:
            self._spool.refuse(name)
            log.error("liveobject refuses event %s, which is now in %s: %s",
                      event.get("event_id"), self._spool.refused / name, reason)
        return None

    def _picture(self, name, record):
        """Returns the picture at an event's `picture_url`, which is loaded once, even if the event is sent again."""
        if not self._load_picture:
            return None
        if self._loaded[0] != name or not self._loaded[1]:
            self._loaded = (name, self._load_picture(record))
        return self._loaded[1]

    def _post(self, event):
        """Returns whether the event is accepted, the reason if not, and the seconds to wait if it must be repeated."""
        request = urllib.request.Request(self.url, json.dumps(event).encode(), {"Content-Type": "application/json"})
        try:
            request.add_unredirected_header("Authorization", f"Bearer {self._token()}")
            with urllib.request.urlopen(request, timeout=TIMEOUT) as response:
                if response.status == 202 and "seq" in json.load(response):
                    return True, "", None
                return False, f"{self.url} is not liveobject (status {response.status})", LONGEST_PAUSE
        except urllib.error.HTTPError as error:
            reason = f"{error.code} {error.read(2000).decode(errors='replace')}"
            if error.code in (401, 403, 404):  # A wrong token or address, which somebody will correct.
                return False, reason, LONGEST_PAUSE
            if error.code in (408, 429) or error.code >= 500 or error.code < 400:
                retry_after = error.headers.get("Retry-After", "")
                return False, reason, int(retry_after) if retry_after.isdigit() else 0
            if error.headers.get_content_type() != "application/problem+json":  # A proxy or another program.
                return False, f"{self.url} is not liveobject: {reason}", LONGEST_PAUSE
            return False, reason, None
        except (OSError, ValueError) as error:  # No connection, no response in time, or no JSON.
            return False, str(error), 0
