// Translates a sentence of the server with every pattern of `sentences-de.js`: its own pattern must translate it, and
// the names in it must stay as they are, whatever they contain.
import { readFileSync } from "node:fs";

process.env.TZ = "Europe/Berlin";
// The modules are joined, because older versions of Node.js do not import a `.js` file as a module.
const modules = ["locale", "translate", "sentences-de"].map((name) => {
  const lines = readFileSync(`src/http/page/${name}.js`, "utf8").split("\n");
  return lines.filter((line) => !line.startsWith("import ")).join("\n");
});
const joined = [...modules, "export { PLACE, VERBATIM };"].join("\n");
const { PLACE, VERBATIM, sentences, translator } =
  await import(`data:text/javascript,${encodeURIComponent(joined)}`);
const translate = translator(sentences);
const faults = [];

const check = (text, expected) => {
  const found = translate(text);
  if (found !== expected) faults.push(`This text has another translation:\n${text}\n${found}\nexpected:\n${expected}`);
};

// Words of the server's own sentences, dates, and what has a meaning in patterns, replacements and HTML.
const NAMES = [
  "back", "once", "supported", "5 h", "2 days", "2026-01-02", "2026-01-02 03:04:05 UTC", "not_authorized",
  "the disk is full", "$1$&$$`$'", "{broker}", "{0}", "<b>a</b>", "a.b*c+(d", "[x]\\", "cats and dogs", "„ä“", "Inc.",
];

/** Returns what the server writes in a place, and what the page shows. */
function valueIn({ place, name, isVerbatim }, verbatim) {
  const ofForm = {
    times: ["3 times", "3-mal"], received: ["acknowledged", "acknowledged"], "%F %T UTC": ["7", "7"],
  }[name || place];
  if (ofForm) return ofForm;
  if (!isVerbatim) return ["7", "7"];
  if (!place.endsWith(":?}")) return [verbatim, verbatim];
  const debug = JSON.stringify(verbatim);
  return [debug, `„${debug.slice(1, -1)}“`];
}

for (const [pattern, translation, unnamed = []] of sentences) {
  const places = [...pattern.matchAll(PLACE)].map(([place, name], i) =>
    ({ place, name: name || String(i), isVerbatim: VERBATIM.has(name) || unnamed.includes(Number(name || i)) }));
  for (const verbatim of NAMES) {
    // Of two places without text between them, the first one is a word.
    if (/\}\{/.test(pattern) && /[\s,;(]/.test(verbatim)) continue;
    const values = places.map((place) => valueIn(place, verbatim));
    let i = 0;
    const text = pattern.replace(PLACE, () => values[i++][0]);
    const shown = Object.fromEntries(places.map(({ name }, place) => [name, values[place][1]]));
    check(text, typeof translation === "function"
      ? translation(shown) : translation.replace(PLACE, (place, name) => shown[name] ?? place));
  }
}

// Lists of topics, of which the first level may contain the word "and".
for (const [topics, german] of [
  ["a/b and a/c", "a/b und a/c"],
  ["a/b, a/c and a/d", "a/b, a/c und a/d"],
  ["a/b, a/c and 3 more", "a/b, a/c und 3 weiteren"],
  ["cats and dogs/a", "cats and dogs/a"],
  ["cats and dogs/a and cats and dogs/b", "cats and dogs/a und cats and dogs/b"],
]) {
  const text = `The broker does not acknowledge messages on ${topics}.`;
  check(text, `Der Broker bestätigt Nachrichten auf ${german} nicht.`);
}

// Times in UTC are shown in the time zone of the browser, and with the day in the form of the language.
const backup = "The backup of {made} UTC was not restored: {failure}.";
const [[pattern]] = sentences.filter(([one]) => one.startsWith(backup));
const ofBackup = translate(pattern.replace("{made}", "2026-01-02 23:04").replace("{failure}", "x"));
if (!ofBackup?.startsWith("Die Sicherung vom Jan 3, 2026, 12:04")) faults.push(`This has another date: ${ofBackup}`);

// A name with sentences in it does not become a part of the server's sentences.
for (const text of [
  "Hidden. The connection was closed. X closed the connection. Was the broker restarted?",
  "The connection to a; The connection was closed was lost (x).",
]) check(text, undefined);

for (const fault of faults) console.error(fault);
process.exit(faults.length > 0 ? 1 : 0);
