// Packages named by these scripts are found in CLIENTS_HOME, where tools/clients has put them.
import { registerHooks } from "node:module";
import { pathToFileURL } from "node:url";

const home = pathToFileURL(`${process.env.CLIENTS_HOME}/`).href;
const here = new URL(".", import.meta.url).href;

registerHooks({
  resolve(name, context, next) {
    const ours = context.parentURL?.startsWith(here) && /^[a-z@]/.test(name) && !name.includes(":");
    return next(name, ours ? { ...context, parentURL: home } : context);
  },
});
