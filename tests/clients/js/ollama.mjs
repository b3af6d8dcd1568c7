// The JavaScript library `ollama`.
import { Ollama } from "ollama";
import { all, runs, serve, shape } from "./shapes.mjs";

const HELLO = [{ role: "user", content: "Why is the sky blue?" }];
const ASK = [{ role: "user", content: "use weather" }];
const STEADY = { temperature: 0, num_predict: 12 };
const SCHEMA = { type: "object", properties: { city: { type: "string" }, rain: { type: "boolean" } }, required: ["city"] };
const TOOL = {
  type: "function",
  function: {
    name: "weather", description: "Say how the weather is.",
    parameters: { type: "object", properties: { city: { type: "string" } }, required: ["city"] },
  },
};
const PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";

serve((told) => {
  const client = new Ollama({ host: told.url });
  const { chat: model, thinker, embed } = told;
  const steady = (more) => ({ model, messages: HELLO, options: STEADY, ...more });
  const stream = async (more) => runs((await all(client.chat({ ...steady(more), stream: true }))).map((one) => shape(one)));
  const words = async (more) => {
    const whole = await client.chat(steady(more));
    const parts = await all(client.chat({ ...steady(more), stream: true }));
    return whole.message.content === parts.map((part) => part.message.content).join("");
  };
  const cold = { temperature: 0 };
  return {
    chat: async () => shape(await client.chat(steady())),
    "chat-stream": () => stream(),
    "chat-text": () => words(),
    "chat-tools": async () => shape(await client.chat(steady({ messages: ASK, tools: [TOOL], options: cold }))),
    "chat-tools-stream": () => stream({ messages: ASK, tools: [TOOL], options: cold }),
    "chat-tools-answered": async () => shape(await client.chat(steady({
      messages: [
        ...HELLO,
        { role: "assistant", content: "", tool_calls: [{ function: { name: "weather", arguments: { city: "Oslo" } } }] },
        { role: "tool", content: "rain", tool_name: "weather" },
      ],
      tools: [TOOL],
    }))),
    "chat-json": async () => shape(JSON.parse((await client.chat({ model, messages: HELLO, format: "json" })).message.content)),
    "chat-schema": async () => shape(JSON.parse((await client.chat({ model, messages: HELLO, format: SCHEMA })).message.content)),
    "chat-think": async () => shape(await client.chat({ model: thinker, messages: HELLO, think: true, options: cold })),
    "chat-think-stream": () => stream({ model: thinker, think: true, options: cold }),
    "chat-think-refused": async () => shape(await client.chat(steady({ think: true }))),
    "chat-image-refused": async () => shape(await client.chat(steady({ messages: [{ ...HELLO[0], images: [PIXEL] }] }))),
    "chat-keep-alive": async () => shape(await client.chat(steady({ keep_alive: "10m" }))),
    "chat-unknown": async () => shape(await client.chat(steady({ model: "no-such-model" }))),
    "chat-unknown-stream": () => stream({ model: "no-such-model" }),
    // How far it got is chance; afterwards the client works on.
    "chat-abort": async () => {
      const left = await client.chat({ model, messages: HELLO, stream: true, options: cold });
      try {
        for await (const part of left) if (part) left.abort();
      } catch (error) {
        if (error.name !== "AbortError") throw error;
      }
      return shape(await client.chat(steady()));
    },
    generate: async () => shape(await client.generate({ model, prompt: "Once upon", options: STEADY })),
    "generate-stream": async () => runs(
      (await all(client.generate({ model, prompt: "Once upon", stream: true, options: STEADY }))).map((one) => shape(one))),
    "generate-raw": async () => shape(await client.generate({ model, prompt: "Once upon", raw: true, options: STEADY })),
    "generate-suffix-refused": async () => shape(await client.generate({ model, prompt: "def f(", suffix: "return 1" })),
    embed: async () => shape(await client.embed({ model: embed, input: "a" })),
    "embed-batch": async () => (await client.embed({ model: embed, input: ["a", "b"] })).embeddings.map((one) => one.length),
    embeddings: async () => (await client.embeddings({ model: embed, prompt: "a" })).embedding.length,
    "embed-unknown": async () => shape(await client.embed({ model: "no-such-model", input: "a" })),
    list: async () => (await client.list()).models.map((one) => one.name).sort(),
    "list-entry": async () => shape((await client.list()).models.find((one) => one.name === model)),
    show: async () => shape(await client.show({ model })),
    "show-unknown": async () => shape(await client.show({ model: "no-such-model" })),
    ps: async () => {
      await client.generate({ model, prompt: "" });
      return shape((await client.ps()).models.find((one) => one.name === model));
    },
    version: async () => shape(await client.version()),
  };
});
