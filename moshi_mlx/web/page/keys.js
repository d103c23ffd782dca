/** The keyboard, for those who do not reach for the mouse. */

/**
 * actions: {mute(), hold(pressed), restart(), save(), end()}. Keys that are typed into a field, that press a button, or
 * that carry a modifier are left to the browser.
 */
export function listenToKeys(actions) {
  let held = false;
  const release = () => {
    if (!held) return;
    held = false;
    actions.hold(false);
  };

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || isTaken(event)) return;
    const action = {
      m: actions.mute,
      r: actions.restart,
      s: actions.save,
      Escape: actions.end,
      " ": () => {
        held = true;
        actions.hold(true);
      },
    }[event.key.length === 1 ? event.key.toLowerCase() : event.key];
    if (!action) return;
    event.preventDefault(); // the space bar would scroll
    if (!event.repeat) action();
  });
  document.addEventListener("keyup", (event) => {
    if (event.key === " ") release();
  });
  window.addEventListener("blur", release); // the key is let go elsewhere
}

function isTaken({ target, key }) {
  if (document.querySelector("dialog[open]")) return true;
  if (target.matches("input, select, textarea, [contenteditable]")) return true;
  return key === " " && target.matches("button, summary, a");
}
