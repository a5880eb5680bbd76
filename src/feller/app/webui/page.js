// Shows small images with sharp pixels, adds messages where Gradio has none, and reports a stopped or restarted server.
(() => {
  const SMALL = 256;
  const EVERY = 4000;
  const SERVER = "feller-server";
  const LOST = "feller-lost";
  const TO_DRAW = "select the draw tool to start";
  const NO_WAVE = "add a recording above first";
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

  // fit the height of a report frame to its content, so that only the page scrolls
  function unroll(frame) {
    const inside = frame.contentDocument?.documentElement;
    if (!inside || !frame.clientWidth || frame.unrolled === frame.clientWidth) return;
    frame.unrolled = frame.clientWidth;
    inside.style.overflowY = "hidden";
    frame.style.height = "";
    const missing = inside.scrollHeight - frame.clientHeight;
    if (missing > 0) frame.style.height = `${frame.offsetHeight + missing}px`;
  }

  // restore an emptied number: Gradio would silently use the minimum
  document.addEventListener("focusin", (event) => {
    if (slides(event.target)) event.target.dataset.before = event.target.value;
  });

  document.addEventListener("blur", (event) => {
    const one = event.target;
    if (!slides(one) || one.value !== "" || !one.dataset.before) return;
    one.value = one.dataset.before;
    one.dispatchEvent(new Event("input", { bubbles: true }));
  }, true);

  // Gradio clamps numbers to the range of the slider: show a note
  document.addEventListener("blur", (event) => {
    const one = event.target;
    if (!slides(one) || one.value === "") return;
    const asked = Number(one.value);
    const taken = Math.min(Math.max(asked, Number(one.min)), Number(one.max));
    if (asked === taken) return;
    const told = document.createElement("p");
    told.className = "taken";
    told.setAttribute("role", "status");
    told.textContent = `${one.value} is outside the range ${one.min} to ${one.max}: changed to ${taken}`;
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

  // Gradio silently leaves the canvas empty if an image cannot be read
  document.addEventListener("change", (event) => check(event.target, event.target.files), true);
  document.addEventListener("drop", (event) => check(event.target, event.dataTransfer?.files), true);
  document.addEventListener("click", (event) => {
    if (!(event.target instanceof Element) || !event.target.closest("button.primary")) return;
    forget(event.target);
    complain(event.target, true);  // an equal error message triggers no change event
  }, true);

  // clear the error of a canvas as soon as its content changes
  for (const kind of ["pointerdown", "change", "drop"]) {
    document.addEventListener(kind, (event) => {
      if (event.target instanceof Element && event.target.closest(".canvas")) complain(event.target, false);
    }, true);
  }

  function complain(place, aloud) {
    for (const one of place.closest("[role=tabpanel]")?.querySelectorAll(".said p.wrong") ?? []) one.hidden = !aloud;
  }

  // immediate feedback of the stop button
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

  // on narrow screens outputs are below the controls: scroll to them
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

  // scroll again after the image has loaded, since the page was too short before
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
      told.textContent = `${files[0].name}: not a readable image. Choose another file (png, jpg, webp ...)`;
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
    tell("The server does not respond. If it was stopped, restart it. ", "Reload", reload);
  }

  // Gradio reloads the page once the server is back, which discards inputs and results
  function compare(now) {
    const before = sessionStorage.getItem(SERVER);
    if (before !== null && before !== String(now)) {
      gone = "The server was restarted; inputs and results are lost. ";
    } else if (sessionStorage.getItem(LOST)) {
      gone = "The connection was lost and the page was reloaded; inputs and results are lost. ";
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
      if (now !== first) tell("The server was restarted: reload this page to continue. ", "Reload", reload);
      else tell(gone, "Close", close);
    } catch {
      missed += 1;
      if (missed > 1) silent();
    }
    setTimeout(look, EVERY);
  }

  // replace Gradio's message on a lost connection by the bar, and add missing messages
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

  // rewrite "queue: 1/2 | 3.0/5.0s"
  function translate() {
    for (const one of document.querySelectorAll(".progress-text")) {
      for (const part of one.childNodes) {
        const rank = part.nodeType === Node.TEXT_NODE && /^\s*queue: (\d+)\/(\d+) \|$/.exec(part.data);
        if (rank) part.data = `queued behind another request, position ${rank[1]} of ${rank[2]} | `;
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
