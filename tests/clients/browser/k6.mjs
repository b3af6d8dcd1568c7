// Runs a k6 script without k6: its modules are stood in for, one iteration for each answer that is given.
//   node k6.mjs SCRIPT   with {level, answers: [{status, body}]} on stdin
import { readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import vm from "node:vm";

const script = process.argv[2];
const { level, answers } = JSON.parse(readFileSync(0, "utf8"));
const sent = [], checks = [], tokens = [];
const stage = {
  __ENV: { LEVEL: level, API_KEY: "k" },
  open: (path) => readFileSync(join(dirname(script), path), "utf8"),
  http: { post: (url, body, settings) => (sent.push({ url, body: JSON.parse(body), headers: settings.headers }), answers[sent.length - 1]) },
  check: (answer, wishes) => checks.push(Object.fromEntries(Object.entries(wishes).map(([name, holds]) => [name, holds(answer)]))),
  exec: { scenario: { get iterationInTest() { return sent.length; } } },
  SharedArray: function (name, make) { return make(); },
  Counter: function () { this.add = (count) => tokens.push(count); },
};
const text = readFileSync(script, "utf8").replace(/^import .*$/gm, "")
  .replace("export default function", "globalThis.iterate = function").replace(/^export const options/m, "globalThis.options");
vm.runInNewContext(text, stage, { filename: script });
answers.forEach(() => stage.iterate());
console.log(JSON.stringify({ options: stage.options, sent, checks, tokens }));
