// @ts-check
// Help with the first event: a sample event with a picture, and examples for programs that send events.

/** @import { DeliveryChange, Delivery, ExampleName } from "./types" */

import { call, messageOf, Problem } from "./api.js";
import { actionButton, fill, html, toast } from "./dom.js";
import { copyButton } from "./event-parts.js";
import { cameraAddress, eventAddress } from "./router.js";
import { samplePicture } from "./sample-picture.js";
import { texts } from "./texts.js";

const labels = texts.firstEvent;
const words = labels.example;
export const SAMPLE_CAMERA = "sample_camera";

/**
 * Returns the address that programs send events to. In the frame of Home Assistant, the page does not know it.
 * @param {boolean} isFramed
 */
const baseAddress = (isFramed) => (isFramed ? labels.addressPlaceholder : new URL(".", location.href).href);

/**
 * The examples, with the address of the API and the token filled in.
 * @type {Record<ExampleName, (address: string, token: string) => string>}
 */
const EXAMPLES = {
  curl: (address, token) => `curl ${address}api/v1/events \\
  -H 'Authorization: Bearer ${token}' -H 'Content-Type: application/json' \\
  -d '{"camera_id": "front_door", "camera_name": "${words.camera}",
       "description": "${words.description}", "objects_detected": ["person"]}'
`,
  "home-assistant": (address, token) => `rest_command:
  liveobject_event:
    url: ${address}api/v1/events
    method: post
    content_type: application/json
    headers:
      authorization: Bearer ${token}
    payload: "{{ event | to_json }}"
    timeout: 10

# ${words.action}
#   action: rest_command.liveobject_event
#   data:
#     event:
#       camera_id: garage
#       camera_name: ${words.otherCamera}
#       description: ${words.otherDescription}
`,
  python: (address, token) => `import json
import urllib.request

event = {
    "camera_id": "front_door",
    "camera_name": "${words.camera}",
    "description": "${words.description}",
    "objects_detected": ["person"],
}
request = urllib.request.Request(
    "${address}api/v1/events",
    data=json.dumps(event).encode(),
    headers={"Authorization": "Bearer ${token}", "Content-Type": "application/json"},
)
print(urllib.request.urlopen(request, timeout=10).read().decode())
`,
};

/** @type {ExampleName[]} */
const NAMES = ["curl", "home-assistant", "python"];

// The service allows a limited number of tokens, so all examples share one, also with those of earlier visits.
const TOKEN_NAME = "page-examples";
/** @type {Promise<string> | null} */
let sharedToken = null;

/** Replaces the token of the examples, which can only send events, and returns the new one. */
async function replaceToken() {
  try {
    await call("DELETE", `tokens/${TOKEN_NAME}`);
  } catch (error) {
    if (!(error instanceof Problem && error.status === 404)) throw error;
  }
  const { token } = await call("POST", "tokens", { name: TOKEN_NAME, scopes: ["events:write"] });
  return token;
}

/** Returns the token of the examples. It is replaced once after the page was loaded. */
async function exampleToken() {
  sharedToken ??= replaceToken();
  try {
    return await sharedToken;
  } catch (error) {
    sharedToken = null;
    throw error;
  }
}

/**
 * Creates an example. The button that copies it creates the token first.
 * @param {ExampleName} name
 * @param {{ isFramed: boolean, isOpen: boolean }} options
 */
function example(name, { isFramed, isOpen }) {
  let token = "";
  const title = labels.examples[name];
  const code = html("pre", { tabindex: 0 });
  const note = html("p", { class: "help", role: "status" }, isFramed && labels.framed);

  function show() {
    code.textContent = EXAMPLES[name](baseAddress(isFramed), token || labels.tokenPlaceholder);
  }

  async function textWithToken() {
    if (!token && !isFramed) {
      try {
        token = await exampleToken();
        note.textContent = labels.tokenCreated;
      } catch (error) {
        const isForbidden = error instanceof Problem && error.status === 403;
        note.textContent = isForbidden || !(error instanceof Error) ? labels.noToken : messageOf(error);
      }
      show();
    }
    return code.textContent ?? "";
  }

  show();
  const label = isFramed ? texts.events.copy : labels.copyWithToken;
  return html("details", { class: "example", open: isOpen },
    html("summary", {}, title),
    code, html("div", { class: "row" }, copyButton(textWithToken, title, { label, class: "" })), note);
}

const emptySection = () => html("section", { class: "first-event", "aria-label": labels.title });

/**
 * Creates the section, or fills `element`. `onArrived` is called when the sample event is delivered.
 * @param {{ canChange: boolean, isFramed: boolean, onArrived?: () => void, element?: HTMLElement }} options
 */
export function firstEvent({ canChange, isFramed, onArrived = () => {}, element = emptySection() }) {
  /** @type {string | null} */
  let sampleId = null;
  /** @type {Delivery | null} */
  let known = null;
  const result = html("p", { class: "result", role: "status" });
  const links = html("p", { class: "row", hidden: true });
  const send = actionButton(labels.send, "primary", sendSample);
  fill(element,
    html("p", {}, labels.text),
    canChange && html("div", { class: "row" }, send), result, links,
    canChange && [
      html("p", {}, labels.programs),
      !isFramed && html("p", { class: "help" }, labels.sharedToken),
      html("div", { class: "examples" }, NAMES.map((name, i) => example(name, { isFramed, isOpen: i === 0 }))),
      html("p", { class: "help" }, labels.more),
    ]);

  async function sendSample() {
    sampleId = `sample-${Date.now().toString(36)}`;
    known = null;
    const id = sampleId;
    result.className = "result";
    result.textContent = labels.sending;
    links.hidden = true;
    try {
      await call("POST", "events", {
        event_id: id, camera_id: SAMPLE_CAMERA, camera_name: labels.cameraName, description: labels.description,
        objects_detected: ["person"], confidence: 97, source_type: "sample", thumbnail: samplePicture(),
      });
    } catch (error) {
      result.textContent = "";
      throw error;
    }
    fill(links, html("a", { href: eventAddress(id) }, labels.show),
      html("a", { href: cameraAddress(SAMPLE_CAMERA) }, labels.showCamera));
    links.hidden = false;
    showResult();
  }

  function showResult() {
    const state = known?.state ?? "pending";
    if (state === "delivered") {
      result.className = "result good";
      result.textContent = labels.arrived;
      // The view may show the event itself by now.
      if (element.offsetParent === null) toast(labels.arrivedShort);
      onArrived();
    } else if (state === "dead") {
      result.className = "result bad";
      result.textContent = (known?.reason && texts.events.reasons[known.reason]) || texts.events.states.dead;
    } else {
      result.textContent = labels.stored;
    }
  }

  /** @param {Pick<DeliveryChange, "event_id" | "delivery">[]} changes */
  function updateDeliveries(changes) {
    const change = changes.find(({ event_id }) => event_id === sampleId);
    if (!change || known?.state === "delivered") return;
    known = change.delivery;
    showResult();
  }

  return { element, updateDeliveries };
}
