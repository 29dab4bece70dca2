// What is the same for every client: the commands.

import { Echo } from './echo.js';

/** A client that does what it is told in lines of text, and answers each with an object. */
export class Client {
  #connect;
  #connection;
  #versions;
  #states = [];
  #echo = new Echo((data) => this.#connection.send(data));

  /**
   * `connect` takes the URL to post to and an object of functions to call: `message(data)`, `closed()` when the
   * channel is, `ice(state)`. It resolves when the channel is open, to an object with `send(data)`, `pair()`,
   * `media()`, `close()`, and `hides` where addresses may be hidden.
   */
  constructor(versions, connect) {
    this.#versions = versions;
    this.#connect = connect;
  }

  /** Never throws: what went wrong is the field `error` of the answer. */
  async command(line) {
    const [name, argument] = line.trim().split(' ');
    const commands = {
      versions: () => this.#versions,
      connect: () => this.#open(argument),
      messages: () => this.#echo.messages(Number(argument)),
      status: () => this.#status(),
      close: () => this.#close(),
    };
    try {
      return await commands[name]();
    } catch (e) {
      return { error: `${line}: ${e?.stack ?? e}` };
    }
  }

  async #open(url) {
    this.#connection = await this.#connect(url, {
      message: (data) => this.#echo.received(data),
      closed: () => this.#echo.fail('the channel is closed'),
      ice: (state) => this.#states.at(-1) === state || this.#states.push(state),
    });
    this.#echo.start();
    return this.#status();
  }

  async #status() {
    return {
      ...this.#echo.status(),
      hides: this.#connection.hides ?? false,
      ice: this.#states,
      pair: await this.#connection.pair(),
      media: await this.#connection.media(),
    };
  }

  async #close() {
    await this.#echo.stop();
    await this.#connection.close();
    return { closed: true };
  }
}
