import assert from "node:assert/strict";
import test from "node:test";

import { promptOf } from "../../web/tab_epochs.js";
import { words } from "../../web/tab_run.js";
import { Server } from "../../web/tab_server.js";

const EPOCH = { stem: "cat-000003", number: 3 };

/** A server whose network answers like this; gives what was asked, too. */
function serverAnswering(status, text) {
  const asked = [];
  globalThis.fetch = async (address, options) => {
    asked.push([address, options]);
    return { ok: status < 400, status, json: async () => JSON.parse(text) };
  };
  return [new Server(new URL("http://here/sub/lazylora/")), asked];
}

test("an epoch's words are its tag and what calls it", () => {
  assert.equal(promptOf({ trigger: "zwx" }, EPOCH), "<lora:cat-000003:1>, zwx");
  assert.equal(promptOf({ trigger: "" }, EPOCH), "<lora:cat-000003:1>");
});

test("the strip says where a run stands, or why it does not", () => {
  const running = { state: "running", entry: { state: "running", said: "" }, text: "step 3/9", error: "" };
  assert.equal(words(running), "step 3/9");
  assert.equal(words({ ...running, error: "the disk is full" }), "the disk is full");
  const stopped = { state: "idle", entry: { state: "stopped", said: "stopped; resume goes on from here" }, error: "" };
  assert.equal(words(stopped), "stopped; resume goes on from here");
  assert.match(words({ ...stopped, entry: { state: "finished", said: "" } }), /done/);
});

test("changes are JSON, below the address that the page came from", async () => {
  const [server, asked] = serverAnswering(200, '{"state": "idle"}');
  assert.deepEqual(await server.change("queue/move", { id: "a", position: 0 }), { state: "idle" });
  const [address, options] = asked[0];
  assert.equal(address, "http://here/sub/lazylora/queue/move");
  assert.equal(options.headers["Content-Type"], "application/json");
  assert.deepEqual(JSON.parse(options.body), { id: "a", position: 0 });
});

test("a refusal is a sentence, whatever the server says", async () => {
  await assert.rejects(serverAnswering(400, '{"error": "the queue is full"}')[0].read("runs"), /the queue is full/);
  await assert.rejects(serverAnswering(502, "<html>")[0].read("runs"), /the server refuses \(502\)/);
  const [server] = serverAnswering(200, "{}");
  globalThis.fetch = () => Promise.reject(new TypeError("network"));
  await assert.rejects(server.read("status"), /does not answer/);
});
