// The operator's token. It is asked for once: for this tab, or for this browser if the operator wants that.

const KEY = "perpacket-token";

export function token() {
  return sessionStorage.getItem(KEY) ?? localStorage.getItem(KEY);
}

export function keep(value, forBrowser) {
  forget();
  (forBrowser ? localStorage : sessionStorage).setItem(KEY, value);
}

export function forget() {
  sessionStorage.removeItem(KEY);
  localStorage.removeItem(KEY);
}
