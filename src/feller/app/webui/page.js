// Small pictures are shown with sharp pixels, what Gradio does without words gets some, and a page whose server has gone,
// or is another by now, says so.
(() => {
  const SMALL = 256;
  const EVERY = 4000;
  const SERVER = "feller-server";
  const LOST = "feller-lost";
  const TO_DRAW = "select the draw tool to start";
  const NO_WAVE = "first put a recording above";
  const NO_SOUND = /Only audio\/\S+ allowed/;
  const SOUNDS = "Only wav, flac, ogg, opus, mp3 allowed";
  const STOP = "Stop";
  const STOPPING = "stopping ...";
  const NARROW = "(max-width: 44rem)";
  const STILL = "(prefers-reduced-motion: reduce)";
  const UNTRANSLATED = { "common.complete": "done", "common.error": "error" };

  document.addEventListener("load", (event) => {
    const one = event.target;
    if (one instanceof HTMLImageElement) {
      one.dataset.loaded = "";
      one.toggleAttribute("data-small", Math.max(one.naturalWidth, one.naturalHeight) <= SMALL);
    }
    if (one instanceof HTMLIFrameElement && one.classList.contains("report")) {
      one.unrolled = 0;
      new ResizeObserver(() => unroll(one)).observe(one);
    }
  }, true);

  // a report is as high as what it holds, so that only the page scrolls
  function unroll(frame) {
    const inside = frame.contentDocument?.documentElement;
    if (!inside || !frame.clientWidth || frame.unrolled === frame.clientWidth) return;
    frame.unrolled = frame.clientWidth;
    inside.style.overflowY = "hidden";
    frame.style.height = "";
    const missing = inside.scrollHeight - frame.clientHeight;
    if (missing > 0) frame.style.height = `${frame.offsetHeight + missing}px`;
  }

  // a number that was emptied gets back what it was: Gradio would take the least without a word
  document.addEventListener("focusin", (event) => {
    if (slides(event.target)) event.target.dataset.before = event.target.value;
  });

  document.addEventListener("blur", (event) => {
    const one = event.target;
    if (!slides(one) || one.value !== "" || !one.dataset.before) return;
    one.value = one.dataset.before;
    one.dispatchEvent(new Event("input", { bubbles: true }));
  }, true);

  // what is beyond a slider is taken as its end: say so
  document.addEventListener("blur", (event) => {
    const one = event.target;
    if (!slides(one) || one.value === "") return;
    const asked = Number(one.value);
    const taken = Math.min(Math.max(asked, Number(one.min)), Number(one.max));
    if (asked === taken) return;
    const told = document.createElement("p");
    told.className = "taken";
    told.setAttribute("role", "status");
    told.textContent = `from ${one.min} to ${one.max} here: ${taken} was taken instead of ${one.value}`;
    one.closest(".block").querySelector("p.taken")?.remove();
    one.closest(".block").append(told);
  }, true);

  document.addEventListener("input", (event) => {
    if (!(event.target instanceof Element) || !event.isTrusted) return;
    event.target.closest(".block")?.querySelector("p.taken")?.remove();
  }, true);

  function slides(one) {
    return one instanceof HTMLInputElement && one.type === "number"
      && !!one.closest(".block")?.querySelector("input[type=range]");
  }

  // a canvas stays empty without a word where a picture cannot be read
  document.addEventListener("change", (event) => check(event.target, event.target.files), true);
  document.addEventListener("drop", (event) => check(event.target, event.dataTransfer?.files), true);
  document.addEventListener("click", (event) => {
    if (!(event.target instanceof Element) || !event.target.closest("button.primary")) return;
    forget(event.target);
    complain(event.target, true);  // the same one again changes nothing that would show it
  }, true);

  // a complaint about a canvas is gone as soon as something is put or drawn there
  for (const kind of ["pointerdown", "change", "drop"]) {
    document.addEventListener(kind, (event) => {
      if (event.target instanceof Element && event.target.closest(".canvas")) complain(event.target, false);
    }, true);
  }

  function complain(place, aloud) {
    for (const one of place.closest("[role=tabpanel]")?.querySelectorAll(".said p.wrong") ?? []) one.hidden = !aloud;
  }

  // whoever presses Stop sees at once that it was heard
  document.addEventListener("click", (event) => {
    const one = event.target instanceof Element && event.target.closest("button.stop");
    if (!one) return;
    one.dataset.stopping = "";
    name(one, STOP, STOPPING);
  }, true);

  function name(button, before, after) {
    for (const part of button.childNodes) {
      if (part.nodeType === Node.TEXT_NODE && part.data.trim() === before) part.data = after;
    }
  }

  function works(tab) {
    return !!tab?.querySelector(".said .progress-text");
  }

  function stopped() {
    for (const one of document.querySelectorAll("button.stop[data-stopping]")) {
      if (works(one.closest(".tab"))) continue;
      delete one.dataset.stopping;
      name(one, STOPPING, STOP);
    }
  }

  // on a telephone answers lie below all that is set: what comes is brought into sight
  let asked = null;
  let began = false;
  document.addEventListener("click", (event) => {
    const one = event.target;
    if (!(one instanceof Element) || !one.closest(".buttons button:not(.stop)")) return;
    asked = matchMedia(NARROW).matches ? one.closest(".tab") : null;
    began = false;
  }, true);

  function follow() {
    if (!asked || works(asked) === began) return;
    began = !began;
    const said = asked.querySelector(".said");
    if (began) return show(said, "nearest");
    const made = said.closest(".made");
    const top = made.getBoundingClientRect().top;
    asked = null;
    if (top >= 0 && top <= window.innerHeight / 8) return;
    show(made, "start");
    landed = made;
    setTimeout(() => { landed = null; }, 3000);
  }

  // before a picture is there, the page ends too early to scroll that far
  let landed = null;
  document.addEventListener("load", (event) => {
    if (event.target instanceof HTMLImageElement && landed?.contains(event.target)) show(landed, "start");
  }, true);

  function show(one, block) {
    if (one.offsetParent !== null) one.scrollIntoView({ block, behavior: matchMedia(STILL).matches ? "auto" : "smooth" });
  }

  async function check(place, files) {
    if (!(place instanceof Element) || !files?.length || !place.closest(".block")?.querySelector("canvas")) return;
    forget(place);
    try {
      (await createImageBitmap(files[0])).close();
    } catch {
      const told = document.createElement("p");
      told.className = "wrong unread";
      told.setAttribute("role", "alert");
      told.textContent = `${files[0].name}: this is no picture that can be read; choose another file (png, jpg, webp ...)`;
      place.closest("[role=tabpanel]")?.querySelector(".said")?.before(told);
    }
  }

  function forget(place) {
    place.closest("[role=tabpanel]")?.querySelector("p.unread")?.remove();
  }

  let first = null;
  let missed = 0;
  let gone = "";

  function tell(text, name, act) {
    let bar = document.getElementById("gone");
    if (!text) {
      bar?.remove();
      return;
    }
    if (!bar) {
      bar = document.createElement("div");
      bar.id = "gone";
      bar.setAttribute("role", "alert");
      document.body.prepend(bar);
    }
    if (bar.firstChild?.textContent === text) return;
    const button = document.createElement("button");
    button.textContent = name;
    button.onclick = act;
    bar.replaceChildren(document.createTextNode(text), button);
  }

  function reload() {
    sessionStorage.removeItem(SERVER);
    sessionStorage.removeItem(LOST);
    window.location.reload();
  }

  function close() {
    gone = "";
    tell("");
  }

  function silent() {
    tell("The server does not answer. If it was stopped, start it again. ", "Reload", reload);
  }

  // Gradio loads the page again by itself once the server is back: what was here is gone then
  function compare(now) {
    const before = sessionStorage.getItem(SERVER);
    if (before !== null && before !== String(now)) {
      gone = "The server was started anew; what was here is gone. ";
    } else if (sessionStorage.getItem(LOST)) {
      gone = "The connection was lost for a while, and this page was loaded again; what was here is gone. ";
    }
    sessionStorage.removeItem(LOST);
    sessionStorage.setItem(SERVER, String(now));
  }

  async function look() {
    try {
      const answer = await fetch("gradio_api/app_id", { cache: "no-store" });
      if (answer.status === 503) throw new Error("not yet");
      const now = answer.ok ? (await answer.json()).app_id : null;
      missed = 0;
      if (first === null && now !== null) {
        first = now;
        compare(now);
      }
      if (now !== first) tell("The server was started anew: reload this page to go on. ", "Reload", reload);
      else tell(gone, "Close", close);
    } catch {
      missed += 1;
      if (missed > 1) silent();
    }
    setTimeout(look, EVERY);
  }

  // what Gradio tells of a lost connection is told by the bar; words that it lacks are put in
  function mend() {
    for (const one of document.querySelectorAll(".toast-body:not([hidden])")) {
      if (!one.textContent.includes("Connection to the server was lost")) continue;
      one.hidden = true;
      one.style.display = "none";
      sessionStorage.setItem(LOST, "yes");
      missed = Math.max(missed, 1);
      silent();
    }
    for (const one of document.querySelectorAll(".toast-body *")) {
      for (const part of one.childNodes) {
        if (part.nodeType === Node.TEXT_NODE && NO_SOUND.test(part.data)) part.data = part.data.replace(NO_SOUND, SOUNDS);
      }
    }
    for (const wave of document.querySelectorAll(".wave")) {
      if (!wave.textContent.includes(TO_DRAW)) continue;
      for (const one of wave.querySelectorAll("div, span")) {
        for (const part of one.childNodes) {
          if (part.nodeType === Node.TEXT_NODE && part.data.trim() === TO_DRAW) part.data = NO_WAVE;
        }
      }
    }
    translate();
    stopped();
    follow();
    for (const one of document.querySelectorAll("[aria-live]")) {
      for (const part of one.childNodes) {
        const words = part.nodeType === Node.TEXT_NODE && UNTRANSLATED[part.data.trim()];
        if (words) part.data = words;
      }
    }
  }

  // "queue: 1/2 | 3.0/5.0s" says little
  function translate() {
    for (const one of document.querySelectorAll(".progress-text")) {
      for (const part of one.childNodes) {
        const rank = part.nodeType === Node.TEXT_NODE && /^\s*queue: (\d+)\/(\d+) \|$/.exec(part.data);
        if (rank) part.data = `waiting for another request, ${rank[1]} of ${rank[2]} in the queue | `;
      }
    }
  }

  function begin() {
    new MutationObserver(mend).observe(document.body, { childList: true, subtree: true, characterData: true });
    look();
  }

  if (document.body) begin();
  else document.addEventListener("DOMContentLoaded", begin);
})();
