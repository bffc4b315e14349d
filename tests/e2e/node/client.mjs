// Exercises the gateway with openai-node and prints what it saw as one line of JSON.
import OpenAI from "openai";

const client = new OpenAI({ baseURL: process.argv[2], apiKey: "unused", maxRetries: 0 });
const messages = [{ role: "user", content: "What is 3 + 4?" }];
const seen = {};

const { data, response } = await client.chat.completions
  .create({ model: "auto", messages, max_tokens: 8 })
  .withResponse();
seen.text = data.choices[0].message.content;
seen.model = data.model;
seen.header = response.headers.get("x-routing-model");

const stream = await client.chat.completions.create({
  model: "auto",
  messages,
  max_tokens: 8,
  stream: true,
  stream_options: { include_usage: true },
});
seen.streamed = "";
for await (const chunk of stream) {
  seen.streamed += chunk.choices[0]?.delta?.content ?? "";
  if (chunk.usage) seen.usage = chunk.usage;
}

try {
  await client.chat.completions.create({ model: "gpt-17", messages });
} catch (error) {
  seen.error = { name: error.constructor.name, code: error.code, type: error.type, param: error.param };
}
seen.models = [];
for await (const model of client.models.list()) seen.models.push(model.id);
console.log(JSON.stringify(seen));
