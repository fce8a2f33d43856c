// Keeps the page up to date. Without it every page still works: reload it.
"use strict";

const main = document.getElementById("content");

// Replace the content, but leave the keyboard where it was.
function show(html) {
  const focused = document.activeElement;
  const id = main.contains(focused) ? focused.id : "";
  main.innerHTML = html;
  if (id && id !== "content") {
    const again = document.getElementById(id);
    if (again) again.focus({ preventScroll: true });
  }
}

// The overview arrives by itself.
if (main.dataset.events) {
  const events = new EventSource(main.dataset.events);
  events.addEventListener("fleet", (event) => show(event.data));
}

// Other pages are read again while something on them can change.
async function again() {
  const seconds = Number(main.dataset.again);
  if (!seconds) return;
  await new Promise((resolve) => setTimeout(resolve, seconds * 1000));
  if (document.visibilityState === "visible") {
    try {
      const answer = await fetch(location.href, { headers: { Accept: "text/html" } });
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      const fresh = page.getElementById("content");
      if (answer.ok && fresh) {
        main.dataset.again = fresh.dataset.again || "";
        show(fresh.innerHTML);
      }
    } catch {
      // The page may be unreachable for a while: it is read again later.
    }
  }
  again();
}
again();
