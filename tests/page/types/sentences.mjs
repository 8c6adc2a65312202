// Compares the patterns in `sentences-de.js` with the texts in the server's source code. A pattern without its text
// would never match. All sentences of the files in `COMPLETE` must have a pattern.
import { readdirSync, readFileSync } from "node:fs";

const CATALOG = "src/http/page/sentences-de.js";
// Their sentences are what people see most.
const COMPLETE = [
  "actors/src/connection/reason.rs", "actors/src/connection/dial/tls_reason.rs",
  "actors/src/connection/dial/diagnosing.rs", "actors/src/connection/client/v5_reason.rs",
  "actors/src/connection/dial/websocket.rs", "actors/src/connection/warnings.rs", "actors/src/outbox/warnings.rs",
  "actors/src/supervisor/security.rs", "actors/src/supervisor/takeover.rs", "actors/src/supervisor/idle_cuts.rs",
  "actors/src/supervisor/availability.rs", "actors/src/domain/topic_use.rs", "actors/src/domain/store_fault.rs",
  "actors/src/domain/node_warnings.rs",
];

const TOKEN = /\/\/[^\n]*|\/\*[^]*?\*\/|r(#*)"[^]*?"\1|"((?:[^"\\]|\\[^])*)"|'(?:\\.[^'\n]*|[^\\'\n])'/g;
const ESCAPES = { n: "\n", t: "\t" };

/** Returns the string literals of a Rust file without its tests, and without those of logs and lints. */
function texts(path) {
  const [code] = readFileSync(path, "utf8").split(/#\[cfg\(test\)\]\s*mod tests \{/);
  return [...code.matchAll(TOKEN)]
    .filter(([, , text]) => text !== undefined)
    .map(({ 2: text, index }) => ({
      isInternal: /(tracing::\w+!\([^;]*|reason = |expect\(\s*)$/.test(code.slice(Math.max(0, index - 300), index)),
      // What comes before it is a sentence of its own.
      text: text.replace(/\\\n\s*/g, "").replace(/\\(.)/g, (_, c) => ESCAPES[c] ?? c).trim()
        .replace(/^(\{[^}]*\} )+(?=\p{Lu})|^; /u, ""),
    }));
}

const isTest = /(^|\/)(tests?|openapi|schema)(\/|\.rs$)|_tests\.rs$/;
const files = ["actors/src", "src"].flatMap((root) => readdirSync(root, { recursive: true })
  .map((name) => `${root}/${name}`).filter((path) => path.endsWith(".rs") && !isTest.test(path)));
const known = new Set(files.flatMap((path) => texts(path).map(({ text }) => text)));

// Older versions of Node.js do not import a `.js` file as a module.
const catalog = await import(`data:text/javascript,${encodeURIComponent(readFileSync(CATALOG, "utf8"))}`);
const patterns = new Set(catalog.sentences.map(([pattern]) => pattern));
const faults = [];
for (const [pattern] of catalog.ofServer) {
  if (!known.has(pattern)) faults.push(`${CATALOG}: the server has no such text (change or remove it): ${pattern}`);
}
for (const [pattern, translation] of catalog.sentences) {
  const places = [...pattern.matchAll(/\{(\w*)(?::[^}]*)?\}|%F %T UTC/g)].map(([, name], i) => name || String(i));
  const used = typeof translation === "string" ? [...translation.matchAll(/\{(\w*)\}/g)].map(([, name]) => name) : [];
  for (const name of used.filter((one) => !places.includes(one))) {
    faults.push(`${CATALOG}: the pattern has no {${name}}: ${pattern}`);
  }
}
const isSentence = (text) => text.split(" ").length >= 4 && /[.?:]$/.test(text) && /^[A-Z{]/.test(text);
for (const path of COMPLETE) {
  for (const { text, isInternal } of texts(path)) {
    if (!isInternal && isSentence(text) && !patterns.has(text)) {
      faults.push(`${path}: add this text to ${CATALOG}, or change its pattern there: ${text}`);
    }
  }
}
for (const fault of faults) console.error(fault);
process.exit(faults.length > 0 ? 1 : 0);
