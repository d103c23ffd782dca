/** The elements of index.html, by their ids. */

/**
 * The element with this id. Throws where there is none, or one of another kind.
 *
 * @template {HTMLElement} [Kind=HTMLElement]
 * @param {string} id
 * @param {new () => Kind} kind
 * @returns {Kind}
 */
export function field(id, kind = /** @type {new () => Kind} */ (HTMLElement)) {
  const element = document.getElementById(id);
  if (element instanceof kind) return element;
  throw new TypeError(`#${id} is not a ${kind.name}`);
}
