// The JavaScript library `openai`.
import OpenAI from "openai";
import { all, runs, serve, shape } from "./shapes.mjs";

const HELLO = [{ role: "user", content: "Why is the sky blue?" }];
const ASK = [{ role: "user", content: "use weather" }];
const PARAMETERS = { type: "object", properties: { city: { type: "string" } }, required: ["city"] };
const TOOL = { type: "function", function: { name: "weather", description: "Say how the weather is.", parameters: PARAMETERS } };

serve((told) => {
  const client = new OpenAI({ baseURL: `${told.url}/v1`, apiKey: "ollama", maxRetries: 0 });
  const { chat: model, thinker, embed } = told;
  const create = (more) => client.chat.completions.create({ model, messages: HELLO, temperature: 0, max_tokens: 12, ...more });
  const stream = async (more) => runs((await all(create({ stream: true, ...more }))).map((one) => shape(one)));
  const json = (value) => shape(JSON.parse(value));
  const use = { messages: ASK, tools: [TOOL], max_tokens: 200 };
  const schema = { type: "json_schema", json_schema: { name: "weather", schema: PARAMETERS } };
  return {
    chat: async () => shape(await create()),
    "chat-stream": () => stream(),
    "chat-stream-usage": () => stream({ stream_options: { include_usage: true } }),
    "chat-text": async () => {
      const parts = await all(create({ stream: true }));
      return (await create()).choices[0].message.content === parts.map((one) => one.choices[0]?.delta.content ?? "").join("");
    },
    "chat-helper": async () => {
      const runner = client.chat.completions.stream({ model, messages: HELLO, temperature: 0 });
      return shape(await runner.finalMessage());
    },
    "chat-tools": async () => shape(await create(use)),
    "chat-tools-stream": () => stream(use),
    "chat-run-tools": async () => {
      const seen = [];
      const said = (name) => ({ ...TOOL, function: { ...TOOL.function, parse: JSON.parse, function: (given) => (seen.push(name, shape(given)), "rain") } });
      const runner = client.chat.completions.runTools({ model, messages: ASK, tools: [said("weather")], temperature: 0 });
      return [typeof (await runner.finalContent()), seen];
    },
    "chat-json": async () => json((await create({ response_format: { type: "json_object" }, max_tokens: 200 })).choices[0].message.content),
    "chat-schema": async () => json((await create({ response_format: schema, max_tokens: 200 })).choices[0].message.content),
    "chat-think": async () => shape(await create({ model: thinker, reasoning_effort: "high", max_tokens: 200 })),
    "chat-stops": async () => shape(await create({ stop: ["a", "b", "c", "d", "e"], max_tokens: 200 })),
    "chat-unknown": async () => shape(await create({ model: "no-such-model" })),
    "chat-unknown-stream": () => stream({ model: "no-such-model" }),
    "chat-embedder-refused": async () => shape(await create({ model: embed })),
    "chat-abort": async () => {
      const parts = await create({ stream: true, max_tokens: undefined });
      for await (const part of parts) if (part) break;
      return parts.controller.signal.aborted;
    },
    completions: async () => shape(await client.completions.create({ model, prompt: "Once upon", max_tokens: 12 })),
    responses: async () => shape(await client.responses.create({ model, input: "Why?", temperature: 0, max_output_tokens: 12 })),
    "responses-stream": async () => runs(
      (await all(client.responses.create({ model, input: "Why?", temperature: 0, max_output_tokens: 12, stream: true }))).map((one) => shape(one))),
    // The library asks for base64 and decodes it.
    embeddings: async () => shape(await client.embeddings.create({ model: embed, input: ["a", "b"] })),
    "embeddings-size": async () => (await client.embeddings.create({ model: embed, input: "a", encoding_format: "float" })).data[0].embedding.length,
    "embeddings-unknown": async () => shape(await client.embeddings.create({ model: "no-such-model", input: "a" })),
    models: async () => (await all(client.models.list())).map((one) => one.id).sort(),
    model: async () => shape(await client.models.retrieve(model)),
    "model-unknown": async () => shape(await client.models.retrieve("no-such-model")),
  };
});
