/** The token that lets this page in, where the server asks for one. */

const KEY = "moshi.token";

/** Move the token from the page's address, where it would be seen and shared, to this tab's memory; return it. */
export function takeToken() {
  const address = new URL(location.href);
  const fragment = new URLSearchParams(address.hash.slice(1));
  const token = address.searchParams.get("token") ?? fragment.get("token");
  if (token === null) return remembered();
  address.searchParams.delete("token");
  fragment.delete("token");
  address.hash = fragment.toString();
  history.replaceState(null, "", address);
  try {
    sessionStorage.setItem(KEY, token);
  } catch {
    // Then a reload needs the whole address again.
  }
  return token;
}

function remembered() {
  try {
    return sessionStorage.getItem(KEY) ?? "";
  } catch {
    return "";
  }
}
