// A WebSocket of `/v1/stream` that comes back by itself.

import { subprotocols } from "./api.js";

const FIRST_WAIT = 500; // ms before the first new try; doubled up to LONGEST_WAIT
const LONGEST_WAIT = 10_000;

/** Follows a stream until `stop`. `query` is asked for the parameters at each connection. */
export class Feed {
  constructor(query, onRows, onProblem, onState) {
    this.query = query;
    this.onRows = onRows;
    this.onProblem = onProblem;
    this.onState = onState;
    this.wait = FIRST_WAIT;
    this.stopped = false;
    this.isOpen = false;
    this.wasClosed = false;
    this.connect();
  }

  connect() {
    const url = new URL(`/v1/stream?${new URLSearchParams(this.query())}`, location.href);
    url.protocol = location.protocol === "https:" ? "wss:" : "ws:";
    const socket = new WebSocket(url, subprotocols());
    this.socket = socket;
    socket.onopen = () => this.became(true);
    socket.onmessage = (event) => {
      if (this.stopped) return;
      const message = JSON.parse(event.data);
      this.wait = FIRST_WAIT;
      if (message.type === "problem") this.onProblem(message.detail);
      else if (message.rows) this.onRows(message.rows);
    };
    socket.onclose = () => {
      this.became(false);
      if (this.stopped) return;
      this.timer = setTimeout(() => this.connect(), this.wait * (0.75 + Math.random() / 2));
      this.wait = Math.min(LONGEST_WAIT, this.wait * 2);
    };
  }

  became(open) {
    this.isOpen = open;
    this.wasClosed ||= !open;
    if (!this.stopped) this.onState();
  }

  stop() {
    this.stopped = true;
    clearTimeout(this.timer);
    const { socket } = this;
    if (socket.readyState === WebSocket.CONNECTING) socket.onopen = () => socket.close(); // else the browser warns
    else socket.close();
  }
}
