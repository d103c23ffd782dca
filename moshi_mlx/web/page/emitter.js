/** Events with types: a class lists its events and their details; listeners are called with the detail alone. */

/**
 * @template {Record<string, unknown>} Events Name of an event -> its detail, undefined for none.
 */
export class Emitter {
  #target = new EventTarget();

  /**
   * Call `listener` at every event of this name. Returns a function that stops that.
   *
   * @template {keyof Events & string} Name
   * @param {Name} name
   * @param {(detail: Events[Name]) => void} listener
   */
  on(name, listener) {
    const handle = (/** @type {Event} */ event) =>
      listener(/** @type {CustomEvent<Events[Name]>} */ (event).detail);
    this.#target.addEventListener(name, handle);
    return () => this.#target.removeEventListener(name, handle);
  }

  /**
   * Tell all listeners; for the class itself.
   *
   * @template {keyof Events & string} Name
   * @param {Name} name
   * @param {Events[Name] extends undefined ? [] : [Events[Name]]} detail
   */
  emit(name, ...[detail]) {
    this.#target.dispatchEvent(new CustomEvent(name, { detail }));
  }
}
