// A client as a program: commands come on stdin, answers go to stdout as JSON, line by line.

import { readFileSync } from 'node:fs';
import { createInterface } from 'node:readline';

/** Serves a client until it has closed, or nobody is there any more. */
export async function serve(client) {
  for await (const line of createInterface({ input: process.stdin })) {
    console.log(JSON.stringify(await client.command(line)));
    if (line === 'close') {
      break;
    }
  }
  process.exit();
}

/** The version of an installed package. */
export function version(name) {
  const file = new URL(`../node_modules/${name}/package.json`, import.meta.url);
  return JSON.parse(readFileSync(file)).version;
}
