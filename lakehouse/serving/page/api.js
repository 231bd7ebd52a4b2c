// Requests to the API, with the key if it asks for one. The key stays in this tab and never stands in a URL.

const KEY = "lakehouse-key";
let asking = null;

/** An answer that is a problem (RFC 9457): its `detail` says what was found and what was expected. */
export class Problem extends Error {
  constructor(status, detail) {
    super(detail);
    this.status = status;
  }
}

/** Return the JSON of a path. Asks the person for the key if the API wants one. Throws Problem. */
export async function get(path, query = {}, signal = undefined) {
  const wanted = Object.entries(query).filter(([, value]) => value !== undefined && value !== null);
  const url = wanted.length ? `${path}?${new URLSearchParams(wanted)}` : path;
  for (let refused = false; ; refused = true) {
    const key = sessionStorage.getItem(KEY);
    const headers = { Accept: "application/json", ...(key ? { Authorization: `Bearer ${key}` } : {}) };
    const answer = await fetch(url, { headers, signal });
    if (answer.ok) return answer.json();
    if (answer.status !== 401) throw new Problem(answer.status, await detailOf(answer));
    await askForKey(key, refused);
  }
}

/** Return the subprotocols of a WebSocket: they carry the key, because a page cannot set its headers. */
export function subprotocols() {
  const key = sessionStorage.getItem(KEY);
  if (!key) return ["lakehouse"];
  const text = btoa(key).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
  return ["lakehouse", `lakehouse.key.${text}`];
}

async function detailOf(answer) {
  const body = await answer.json().catch(() => ({}));
  return body.detail ?? `HTTP ${answer.status}`;
}

/** Ask for the key, once for all requests that were refused. */
function askForKey(sent, again) {
  if (sent !== sessionStorage.getItem(KEY)) return Promise.resolve(); // another request has asked already
  asking ??= new Promise((done) => {
    const dialog = document.getElementById("key-dialog");
    const field = document.getElementById("key");
    document.getElementById("key-hint").textContent = again || sent
      ? "That is not the key. The server's LAKEHOUSE_API_KEY or --api-key-file has it."
      : "This server asks for a key. It is kept until this tab is closed.";
    field.value = "";
    dialog.showModal();
    dialog.addEventListener("cancel", (event) => event.preventDefault());
    dialog.addEventListener("close", () => {
      sessionStorage.setItem(KEY, field.value.trim());
      asking = null;
      done();
    }, { once: true });
  });
  return asking;
}
