// Lets the explorer's page ask a Python in this very browser: a worker has vcpuid, and nothing that is dropped leaves the machine.

const policy = globalThis.trustedTypes?.createPolicy("vcpuid-worker", { createScriptURL: (url) => url });
const address = new URL("worker.js", import.meta.url).href;
const worker = new Worker(policy ? policy.createScriptURL(address) : address, { type: "module" });
const waiting = new Map();
let number = 0;

worker.addEventListener("message", ({ data }) => {
  const { resolve, reject } = waiting.get(data.number);
  waiting.delete(data.number);
  const told = JSON.parse(data.answer);
  if (told.error) reject(new Error(told.error));
  else resolve(told);
});
worker.addEventListener("error", (event) => {
  for (const { reject } of waiting.values()) reject(new Error(event.message || "Python could not be started in this browser"));
  waiting.clear();
});

globalThis.vcpuidAsk = async (route, body) => {
  const bytes = new Uint8Array(body instanceof Blob ? await body.arrayBuffer() : new TextEncoder().encode(JSON.stringify(body)));
  return new Promise((resolve, reject) => {
    number += 1;
    waiting.set(number, { resolve, reject });
    worker.postMessage({ number, route, bytes, name: body.name ?? "" });
  });
};
