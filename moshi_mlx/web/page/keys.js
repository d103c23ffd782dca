/** Keys that stand for buttons, and the button that stands for a key where there is none. */

/** @typedef {{ mute(): void, hold(pressed: boolean): void, restart(): void, save(): void, end(): void }} Actions */

/**
 * Keys that are typed into a field, that press a button, or that come with a modifier are left to the browser.
 *
 * @param {Actions} actions
 */
export function listenToKeys(actions) {
  let held = false;
  const release = () => {
    if (!held) return;
    held = false;
    actions.hold(false);
  };
  const bindings = new Map([
    ["m", actions.mute],
    ["r", actions.restart],
    ["s", actions.save],
    ["escape", actions.end],
    [
      " ",
      () => {
        held = true;
        actions.hold(true);
      },
    ],
  ]);

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || isTaken(event)) return;
    const action = bindings.get(event.key.toLowerCase());
    if (!action) return;
    event.preventDefault(); // the space bar would scroll
    if (!event.repeat) action();
  });
  document.addEventListener("keyup", (event) => {
    if (event.key === " ") release();
  });
  window.addEventListener("blur", release); // the key may be released elsewhere
}

/**
 * Let a button do what the space bar does: somebody is heard while it is pressed.
 *
 * @param {HTMLElement} button
 * @param {(pressed: boolean) => void} hold
 */
export function holdToTalk(button, hold) {
  button.addEventListener("pointerdown", (event) => {
    button.setPointerCapture(event.pointerId); // a finger may slip off it
    hold(true);
  });
  for (const end of ["pointerup", "pointercancel"]) button.addEventListener(end, () => hold(false));
  button.addEventListener("contextmenu", (event) => event.preventDefault()); // of a long touch
}

/** @param {KeyboardEvent} event */
function isTaken({ target, key }) {
  if (document.querySelector("dialog[open]")) return true;
  if (!(target instanceof Element)) return false;
  if (target.matches("input, select, textarea, [contenteditable]")) return true;
  return key === " " && target.matches("button, summary, a");
}
