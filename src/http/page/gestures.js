// @ts-check
// Moving between the items of a dialog with the arrow keys, and with swipes on touch screens.

const SWIPE_PX = 60;

/**
 * Calls `move` with 1 when a finger moves to the left across the element, and with -1 when it moves to the right.
 * @param {HTMLElement} element
 * @param {(step: 1 | -1) => void} move
 * @param {() => boolean} [isAllowed]
 */
export function onSwipe(element, move, isAllowed = () => true) {
  /** @type {{ x: number, y: number } | null} */
  let start = null;
  element.addEventListener("touchstart", (event) => {
    const [touch] = event.touches;
    start = event.touches.length === 1 && isAllowed() ? { x: touch.clientX, y: touch.clientY } : null;
  }, { passive: true });
  element.addEventListener("touchend", (event) => {
    const [touch] = event.changedTouches;
    if (!start || !touch) return;
    const x = touch.clientX - start.x;
    const y = touch.clientY - start.y;
    start = null;
    // A short or mostly vertical movement scrolls or selects text.
    if (Math.abs(x) >= SWIPE_PX && Math.abs(x) > 2 * Math.abs(y)) move(x < 0 ? 1 : -1);
  }, { passive: true });
}

/**
 * Calls `move` with 1 and -1 for the right and left arrow keys, while the dialog is open and topmost.
 * @param {HTMLDialogElement} dialog
 * @param {(step: 1 | -1) => void} move
 * @param {() => boolean} [isAllowed]
 */
export function onArrowKeys(dialog, move, isAllowed = () => true) {
  /** @param {KeyboardEvent} event */
  function onKey(event) {
    const dialogs = document.querySelectorAll("dialog[open]");
    if (dialogs[dialogs.length - 1] !== dialog || !isAllowed()) return;
    if (event.altKey || event.ctrlKey || event.metaKey || event.shiftKey) return;
    if (event.key === "ArrowLeft") move(-1);
    if (event.key === "ArrowRight") move(1);
  }
  // The focus may be outside the dialog, because the element that had it was replaced.
  document.addEventListener("keydown", onKey);
  dialog.addEventListener("close", () => document.removeEventListener("keydown", onKey));
}
