// An answer as it is written, and the progress of a job. Without scripts the forms do the same.
"use strict";

const form = document.getElementById("ask");
let asking = null;

if (form) {
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    if (asking) asking.abort();
    asking = new AbortController();
    for (const place of document.querySelectorAll(".answer")) answer(place, asking.signal);
  });
  form.elements.question.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
      event.preventDefault();
      form.requestSubmit();
    }
  });
}

async function answer(place, signal) {
  const part = (name) => place.querySelector(name);
  const fail = (what, hint) => {
    part(".trouble").hidden = false;
    part(".what").textContent = what;
    part(".hint").textContent = hint;
  };
  place.hidden = false;
  part(".trouble").hidden = true;
  part(".said").textContent = "";
  part(".from").replaceChildren();
  part(".state").textContent = "waiting for the model …";
  part(".mark").hidden = true;
  part(".mark").reset();
  part(".marked").textContent = "";
  const fields = new URLSearchParams(new FormData(form));
  fields.set("model", place.dataset.model);
  const began = performance.now();
  let whole = false;
  try {
    const reply = await fetch("/ask/stream", { method: "POST", body: fields, signal });
    if (!reply.ok) throw new Error(`the server refused (${reply.status}); load the page anew`);
    for await (const event of events(reply)) {
      if ("origin" in event) {
        part(".from").innerHTML = event.origin; // escaped by the template
        part(".state").textContent = "writing …";
      }
      if ("text" in event) part(".said").textContent += event.text;
      if ("error" in event) fail(event.error, event.hint);
      if ("tokens" in event) {
        const seconds = ((performance.now() - began) / 1000).toFixed(1);
        part(".state").textContent = `${event.tokens} tokens, ${seconds} s`;
        part(".mark").elements.id.value = event.id;
        part(".mark").hidden = !event.id;
      }
      whole = whole || "tokens" in event || "error" in event;
    }
    if (!whole) fail("the answer was cut off: the server has stopped", "bench ui");
  } catch (error) {
    if (signal.aborted) return;
    fail(String(error.message || error), "bench ui");
  }
  if (!part(".trouble").hidden) part(".state").textContent = "";
}

for (const marking of document.querySelectorAll(".mark")) {
  marking.addEventListener("submit", async (event) => {
    event.preventDefault();
    const body = new URLSearchParams(new FormData(marking, event.submitter));
    const told = marking.querySelector(".marked");
    try {
      const reply = await fetch("/feedback", { method: "POST", body });
      told.textContent = reply.ok ? await reply.text() : "it could not be marked; ask again";
    } catch {
      told.textContent = "the server is away";
    }
  });
}

async function* events(reply) {
  const reader = reply.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const pieces = (rest + value).split("\n\n");
    rest = pieces.pop();
    for (const piece of pieces) {
      const data = piece.replace(/^data: /, "");
      if (data !== "[DONE]") yield JSON.parse(data);
    }
  }
}

// What a frame says is never the truth by itself: the page is loaded anew when the job has ended.
const progress = document.getElementById("progress");

async function refresh() {
  if (progress.firstElementChild.dataset.live !== "yes") return location.reload();
  if (!document.hidden) {
    try {
      const reply = await fetch(progress.dataset.from);
      if (reply.ok) keepScroll(await reply.text());
    } catch {
      // The server is away; the job is not.
    }
  }
  setTimeout(refresh, 2000);
}

function keepScroll(html) {
  const places = [...progress.querySelectorAll("pre")].map((pre) => pre.scrollTop);
  progress.innerHTML = html; // escaped by the template
  progress.querySelectorAll("pre").forEach((pre, n) => (pre.scrollTop = places[n] || 0));
}

if (progress && progress.firstElementChild.dataset.live === "yes") setTimeout(refresh, 1000);
