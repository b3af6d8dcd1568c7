// What a client's script answers: every value reduced to what a caller's program can rely on (see shapes.py).
import { createInterface } from "node:readline";

const EXACT = new Set(["role", "object", "type", "done", "done_reason", "finish_reason", "stop_reason", "status", "name", "model"]);

/** Return the structure of a value: fields with types, lists as the shapes that follow one another in them. */
export function shape(value, key = "") {
  if (EXACT.has(key) && (value === null || ["string", "boolean"].includes(typeof value))) return value;
  if (value === null) return "null";
  if (value instanceof Date) return "Date";
  if (Array.isArray(value)) return runs(value.map((one) => shape(one)));
  if (typeof value === "object") {
    return Object.fromEntries(Object.entries(value).map(([name, one]) => [name, shape(one, name)]));
  }
  return typeof value;
}

/** Return values without those that equal the one before. */
export function runs(values) {
  const found = [];
  for (const value of values) {
    if (!found.length || JSON.stringify(found.at(-1)) !== JSON.stringify(value)) found.push(value);
  }
  return found;
}

/** Return all parts of a stream. */
export async function all(stream) {
  const found = [];
  for await (const part of await stream) found.push(part);
  return found;
}

async function attempt(check) {
  try {
    return await check();
  } catch (error) {
    const told = { error: error.constructor.name, said: error.message };
    if (error.status ?? error.status_code) told.status = error.status ?? error.status_code;
    if ([TypeError, ReferenceError, SyntaxError].includes(error.constructor)) {
      console.error(error);
      told.ours = "an error of the language's own";
    }
    return told;
  }
}

/** Answer every line of standard input (an object: url, names of models) with one line: results by case. */
export async function serve(cases) {
  console.log(JSON.stringify("ready"));
  for await (const line of createInterface({ input: process.stdin })) {
    const results = {};
    const told = JSON.parse(line);
    for (const [name, check] of Object.entries(cases(told))) {
      const began = performance.now();
      results[name] = await attempt(check);
      console.error(`${told.side} ${name}: ${(performance.now() - began).toFixed(0)} ms`);
    }
    console.log(JSON.stringify(results));
  }
}
