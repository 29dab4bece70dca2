// WHIP, RFC 9725, without trickle ICE.

/** Posts an offer; returns the answer and what ends the session. */
export async function post(url, offer) {
  const response = await fetch(url, {
    method: 'POST',
    headers: { 'Content-Type': 'application/sdp' },
    body: offer,
  });
  const answer = await response.text();
  if (response.status !== 201) {
    throw new Error(`POST ${url}: ${response.status} ${answer}`);
  }
  const session = new URL(response.headers.get('Location'), response.url);
  return { answer, end: () => remove(session) };
}

async function remove(session) {
  const response = await fetch(session, { method: 'DELETE' });
  if (!response.ok) {
    throw new Error(`DELETE ${session}: ${response.status} ${await response.text()}`);
  }
}
