// The log of events, newest first, live.

import { call, get } from "./api.js";
import { blank, busy, copy, dialog, fill, foreign, h, newId, picture, time, took } from "./dom.js";
import { T } from "./texts.js";

const E = T.events;
const PAGE = 30;
// More rows than that are not kept: whoever goes further down loads them again.
const MAX_ROWS = 600;
// A picture may come after its event: a source hands it in with a second call. Until then nobody knows of it.
const LOOK_AGAIN_MS = [250, 1000, 4000, 15_000];

const thumbnail = (event, alt, name) =>
  (event.has_thumbnail ? picture(`events/${encodeURIComponent(event.event_id)}/thumbnail`, alt, name) : blank(name));

/** What became of an event, in a few words. */
function mark(event) {
  const { state, delivered_at, late, dismissed } = event.delivery;
  const text = state === "delivered" && delivered_at ? E.deliveredIn(took(event.received_at, delivered_at))
    : state === "dead" && dismissed ? E.dismissed : E[state];
  return h("span", { class: `mark ${state}` }, text, late && h("span", { class: "late", title: E.lateHelp }, ` · ${E.late}`));
}

/** The view; `event`, `delivery` and `reset` are what the stream tells. */
export function eventsView(canChange) {
  const shown = new Map();
  let next = null, loading = false, round = 0, prefix = "liveobject", openDetail = null;

  const camera = h("select", { id: newId(), onchange: () => reload() }, h("option", { value: "" }, E.anyCamera));
  const state = h("select", { id: newId(), onchange: () => reload() },
    h("option", { value: "" }, E.anyState), ["pending", "delivered", "dead"].map((s) => h("option", { value: s }, E[s])));
  const list = h("ol", { class: "events" });
  const note = h("p", { class: "empty", role: "status" });
  const more = h("button", { type: "button", class: "more", onclick: () => load() }, E.more);
  const element = h("section", { "aria-label": T.views.events },
    h("div", { class: "filters" },
      h("div", { class: "field" }, h("label", { for: camera.id }, E.camera), camera),
      h("div", { class: "field" }, h("label", { for: state.id }, E.state), state)),
    list, note, more);
  new IntersectionObserver((seen) => seen.some((s) => s.isIntersecting) && !more.hidden && load(), { rootMargin: "400px" }).observe(more);
  more.hidden = true;

  const matches = (event) => (!camera.value || event.camera_id === camera.value) && (!state.value || event.delivery.state === state.value);

  function row(event) {
    const place = h("span", { class: "place" }, mark(event));
    const open = h("button", { type: "button", class: "open", onclick: () => detail(event.event_id), "aria-label": E.open(event.description.slice(0, 100)) });
    const element = h("li", {}, thumbnail(event, "", "thumb"),
      h("div", { class: "what" },
        h("p", { class: "who" }, foreign("strong", {}, event.camera_name), " ", time(event.timestamp)),
        foreign("p", { class: "text" }, event.description),
        h("p", { class: "tags" }, event.objects_detected.map((object) => foreign("span", { class: "tag" }, object)),
          h("span", { class: "sure" }, E.confidence(event.confidence)), place)),
      open);
    shown.set(event.event_id, { event, element, place });
    return element;
  }

  function told() {
    note.textContent = loading ? E.loading
      : shown.size === 0 ? (camera.value || state.value ? E.noneOf : E.none)
      : next === null ? E.end : "";
    more.hidden = next === null || loading;
  }

  async function load() {
    if (loading) return;
    loading = true;
    told();
    const mine = round;
    const query = new URLSearchParams({ limit: PAGE });
    if (camera.value) query.set("camera_id", camera.value);
    if (state.value) query.set("state", state.value);
    if (next !== null) query.set("before", next);
    try {
      const page = await get(`events?${query}`);
      if (mine !== round) return;
      next = page.next_before;
      for (const event of page.events) if (!shown.has(event.event_id)) list.append(row(event));
      loading = false;
      told();
    } catch (problem) {
      if (mine !== round) return;
      loading = false;
      told();
      note.textContent = problem.message;
    }
  }

  function reload() {
    round++;
    loading = false;
    next = null;
    shown.clear();
    list.replaceChildren();
    return load();
  }

  function knowCameras(cameras) {
    const chosen = camera.value;
    fill(camera, h("option", { value: "" }, E.anyCamera),
      cameras.map((c) => h("option", { value: c.camera_id }, c.camera_name)));
    camera.value = chosen;
    if (camera.value !== chosen) {
      camera.value = "";
      reload();
    }
  }

  function event(event) {
    if (shown.has(event.event_id) || !matches(event)) return;
    const added = row(event);
    added.classList.add("new");
    list.prepend(added);
    awaitPicture(event.event_id);
    if (list.children.length > MAX_ROWS) {
      const [id, last] = [...shown].find(([, kept]) => kept.element === list.lastElementChild) ?? [];
      if (id) {
        last.element.remove();
        shown.delete(id);
        next = [...shown.values()].reduce((least, kept) => Math.min(least, kept.event.seq), Infinity);
      }
    }
    told();
  }

  const awaited = new Set();
  let looking, soon = false;

  function awaitPicture(id) {
    awaited.add(id);
    // Events that come one after the other do not put it off.
    if (soon) return;
    soon = true;
    clearTimeout(looking);
    look([...LOOK_AGAIN_MS]);
  }

  /** Asks after the pictures of all new events at once, several times and no longer. */
  function look([wait, ...waits]) {
    if (wait === undefined) return awaited.clear();
    looking = setTimeout(async () => {
      soon = false;
      const page = await get(`events?limit=${PAGE}`).catch(() => undefined);
      for (const { event_id, has_thumbnail } of page?.events ?? []) {
        if (!has_thumbnail || !awaited.delete(event_id)) continue;
        const kept = shown.get(event_id);
        if (!kept) continue;
        kept.event.has_thumbnail = true;
        kept.element.querySelector(".thumb")?.replaceWith(thumbnail(kept.event, "", "thumb"));
      }
      if (awaited.size > 0) look(waits);
    }, wait);
  }

  function delivery(changes) {
    for (const { event_id, delivery } of changes) {
      const kept = shown.get(event_id);
      if (!kept) continue;
      kept.event.delivery = delivery;
      fill(kept.place, mark(kept.event));
      if (openDetail?.id === event_id) openDetail.update();
    }
  }

  function detail(id) {
    const { event } = shown.get(id);
    const { received_at, delivery: _, has_thumbnail: __, ...payload } = event;
    if (event.delivery.late) payload.late = true;
    const topic = `${prefix}/camera/${event.camera_id}/${event.delivery.late ? "history" : "event"}`;
    const text = JSON.stringify(payload, null, 2);
    const copyButton = (what, label) => {
      const button = h("button", { type: "button", class: "quiet", "aria-label": `${E.copy}: ${label}`, onclick: async () => {
        await copy(what);
        button.textContent = E.copied;
      } }, E.copy);
      return button;
    };
    const status = h("div", { class: "delivery" });
    const decide = (label, className, work) => {
      const button = h("button", { type: "button", class: className, onclick: () => busy(button, work) }, label);
      return button;
    };
    // What the stream has told meanwhile is newer than an answer.
    const unlessTold = (before, answered) => event.delivery === before && delivery([{ event_id: id, delivery: answered }]);
    const update = () => fill(status, mark(event),
      event.delivery.reason && foreign("p", { class: "reason" }, E.reasons[event.delivery.reason] ?? event.delivery.reason),
      canChange && event.delivery.state === "dead" && h("div", { class: "row" },
        decide(E.retry, "primary", async () => {
          const before = event.delivery;
          const again = await call("POST", `events/${encodeURIComponent(id)}/retry`);
          unlessTold(before, again.delivery);
        }),
        !event.delivery.dismissed && decide(E.dismiss, "", async () => {
          const before = event.delivery;
          await call("DELETE", `events/${encodeURIComponent(id)}/dead`);
          unlessTold(before, { ...before, dismissed: true });
        })));
    update();
    const fact = (label, iso) => iso && [h("dt", {}, label), h("dd", {}, new Date(iso).toLocaleString(undefined, { dateStyle: "full", timeStyle: "medium" }))];
    const box = dialog(event.camera_name, h("div", { class: "detail" },
      thumbnail(event, E.picture(event.camera_name), "large"),
      foreign("p", { class: "text" }, event.description),
      h("p", { class: "tags" }, event.objects_detected.map((object) => foreign("span", { class: "tag" }, object)), h("span", { class: "sure" }, E.confidence(event.confidence))),
      status,
      h("dl", { class: "facts" }, fact(E.happened, event.timestamp), fact(E.accepted, received_at), fact(E.deliveredAt, event.delivery.delivered_at)),
      h("h3", {}, E.topic, copyButton(topic, E.topic)), h("pre", { tabindex: 0 }, topic),
      h("h3", {}, E.payload, copyButton(text, E.payload)), foreign("pre", { tabindex: 0 }, text)));
    openDetail = { id, update };
    box.addEventListener("close", () => { openDetail = null; });
  }

  return { element, event, delivery, reset: reload, knowCameras, usePrefix: (text) => { prefix = text; } };
}
