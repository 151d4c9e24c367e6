// Python with vcpuid: Pyodide and the package's own files lie beside this file, and nothing else is fetched.

import { loadPyodide } from "./pyodide/pyodide.mjs";

const fetched = async (name) => new Uint8Array(await (await fetch(new URL(name, import.meta.url))).arrayBuffer());

async function begin() {
  const [python, package_, hosts] = await Promise.all([
    loadPyodide({ indexURL: new URL("pyodide/", import.meta.url).href }),
    fetched("vcpuid.zip"),
    (await fetch(new URL("hosts.json", import.meta.url))).json(),
  ]);
  python.unpackArchive(package_, "zip", { extractDir: "/vcpuid" });
  const ask = python.runPython(`
import json, sys
sys.path.insert(0, "/vcpuid")
from vcpuid.errors import VcpuidError
from vcpuid.explore.bench import Bench, told

bench = Bench({})

def ask(route, body, name):
    try:
        return json.dumps(bench.answer(route, bytes(body), name))
    except VcpuidError as error:
        return json.dumps(told(error))

ask
`);
  for (const name of hosts) ask("read", python.toPy(await fetched(`hosts/${name}`)), name);
  return (route, bytes, name) => ask(route, python.toPy(bytes), name);
}

const begun = begin();

addEventListener("message", async ({ data }) => {
  let answer;
  try {
    answer = (await begun)(data.route, data.bytes, data.name);
  } catch (error) {
    answer = JSON.stringify({ error: String(error.message).trim().split("\n").at(-1) });
  }
  postMessage({ number: data.number, answer });
});
