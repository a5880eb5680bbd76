// Small pictures are shown with sharp pixels, and a page whose server has gone, or is another by now, says so.
(() => {
  const SMALL = 256;
  const EVERY = 4000;

  document.addEventListener("load", (event) => {
    const one = event.target;
    if (one instanceof HTMLImageElement) {
      one.toggleAttribute("data-small", Math.max(one.naturalWidth, one.naturalHeight) <= SMALL);
    }
  }, true);

  let first = null;
  let missed = 0;

  function tell(text) {
    let bar = document.getElementById("gone");
    if (!text) {
      bar?.remove();
      return;
    }
    if (!bar) {
      bar = document.createElement("div");
      bar.id = "gone";
      bar.setAttribute("role", "alert");
      document.body.append(bar);
    }
    if (bar.firstChild?.textContent === text) return;
    const again = document.createElement("button");
    again.textContent = "Reload";
    again.onclick = () => window.location.reload();
    bar.replaceChildren(document.createTextNode(text), again);
  }

  async function look() {
    try {
      const answer = await fetch("gradio_api/app_id", { cache: "no-store" });
      if (answer.status === 503) throw new Error("not yet");
      const now = answer.ok ? (await answer.json()).app_id : null;
      missed = 0;
      first ??= now;
      tell(now === first ? "" : "The server was started anew: reload this page to go on. ");
    } catch {
      missed += 1;
      if (missed > 1) tell("The server does not answer. If it was stopped, start it again. ");
    }
    setTimeout(look, EVERY);
  }

  setTimeout(look, EVERY);
})();
