// The /lazylora/ routes as the panels use them: JSON in, JSON out, and a sentence where something cannot be done.

export class Server {
  /** base: the address of /lazylora/, with its slash at the end. */
  constructor(base) {
    this.base = base;
  }

  address(path) {
    return new URL(path, this.base).href;
  }

  async read(path) {
    return answered(fetch(this.address(path), { credentials: "same-origin" }));
  }

  async change(path, values = {}) {
    const headers = { "Content-Type": "application/json" };
    const body = JSON.stringify(values);
    return answered(fetch(this.address(path), { method: "POST", headers, body, credentials: "same-origin" }));
  }
}

async function answered(request) {
  let response;
  try {
    response = await request;
  } catch {
    throw new Error("the server does not answer; a run in it goes on, and is shown here once it does");
  }
  const values = await response.json().catch(() => ({}));
  if (!response.ok) {
    throw new Error(values.error ?? `the server refuses (${response.status})`);
  }
  return values;
}
